// For NNI's manager on a busy machine: it gives a tuner ten seconds to connect, which starting Python may take longer than.
'use strict';

const start = global.setTimeout;
global.setTimeout = (work, milliseconds, ...rest) => start(work, milliseconds === 10000 ? 600000 : milliseconds, ...rest);
