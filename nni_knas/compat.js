// A repair of NNI 3.0's manager, loaded into it by compat.py before its own code.
//
// Trials that start at about the same time got one another's parameters: the manager handed the parameters out in the
// order in which the trials asked for them, whichever trial they were meant for. The portal then showed a trial with the
// wrong architecture, and its end was taken for the end of another.
'use strict';

delete process.env.NODE_OPTIONS; // it is meant for the manager alone, not for its trials
if (process.env.NNI_KNAS_NODE_OPTIONS) {
    process.env.NODE_OPTIONS = process.env.NNI_KNAS_NODE_OPTIONS;
}

const Module = require('module');
const load = Module._load;
Module._load = function (...request) {
    const loaded = load.apply(this, request);
    if (loaded && loaded.V3asV1 && !loaded.V3asV1.repairedByKnas) {
        repair(loaded.V3asV1);
    }
    return loaded;
};

function repair(TrainingService) {
    TrainingService.repairedByKnas = true;
    const submit = TrainingService.prototype.submitTrialJob;
    TrainingService.prototype.submitTrialJob = async function (form) {
        const trial = await submit.call(this, form);
        const waiting = this.parameters.indexOf(form.hyperParameters.value);
        if (waiting >= 0) { // the trial has only been started, and will take a second or more before it asks
            this.parameters.splice(waiting, 1);
            this.allocatedParameters.set(trial.id, form.hyperParameters.value);
        }
        return trial;
    };
}
