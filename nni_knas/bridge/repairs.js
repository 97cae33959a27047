// Repairs of NNI 3.0's manager, loaded into it by repairs.py before its own code.
'use strict';

delete process.env.NODE_OPTIONS; // it is meant for the manager alone, not for its trials
if (process.env.NNI_KNAS_NODE_OPTIONS) {
    process.env.NODE_OPTIONS = process.env.NNI_KNAS_NODE_OPTIONS;
}

const address = process.env.NNI_KNAS_LISTEN; // empty for all
delete process.env.NNI_KNAS_LISTEN;
const everywhere = !address || address === '0.0.0.0' || address === '::';
if (address) {
    repairListening(require('net'));
}

const { repairMachines } = require('./machines.js');
const Module = require('module');
const load = Module._load;
Module._load = function (...request) {
    const loaded = load.apply(this, request);
    if (loaded && loaded.V3asV1 && !loaded.V3asV1.repairedByKnas) {
        repairParameters(loaded.V3asV1);
    }
    if (loaded && loaded.NNITensorboardManager && !loaded.NNITensorboardManager.repairedByKnas) {
        repairTensorboard(loaded.NNITensorboardManager);
    }
    if (loaded) {
        repairMachines(loaded);
    }
    return loaded;
};

// Trials that start at about the same time got one another's parameters: the manager handed the parameters out in the
// order in which the trials asked for them, whichever trial they were meant for. The portal then showed a trial with the
// wrong architecture, and its end was taken for the end of another.
function repairParameters(TrainingService) {
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

// The manager listened on every address of the machine, without a login, and runs what it is sent as the user. It listens
// on the loopback address, which NNI's own clients use, and on one more where that is asked for.
function repairListening(net) {
    const listen = net.Server.prototype.listen;
    net.Server.prototype.listen = function (...request) {
        const first = typeof request[0] === 'function' ? undefined : request[0];
        const options = first !== null && typeof first === 'object' ? first : { port: first ?? 0 };
        if (!(Number(options.port) >= 0)) { // a path
            return listen.apply(this, request);
        }
        if (!everywhere && address !== '127.0.0.1') {
            this.once('listening', () => listenThere(this));
        }
        const host = everywhere ? address : '127.0.0.1';
        return listen.call(this, { ...options, host }, request.find(each => typeof each === 'function'));
    };

    function listenThere(server) {
        const there = net.createServer(socket => server.emit('connection', socket));
        there.on('error', error => server.emit('error', error));
        listen.call(there, { port: server.address().port, host: address });
        const close = server.close;
        server.close = function (...request) {
            there.close();
            return close.apply(server, request);
        };
    }
}

// The portal's TensorBoard button looked for the command on the PATH, where the one of a virtual environment need not be;
// and where there was none, the manager ended with an unhandled error, and with it the experiment.
function repairTensorboard(TensorboardManager) {
    TensorboardManager.repairedByKnas = true;
    const { getTensorboardStartCommand, updateTensorboardTask } = TensorboardManager.prototype;
    TensorboardManager.prototype.getTensorboardStartCommand = async function (...request) {
        const [, ...options] = await getTensorboardStartCommand.apply(this, request);
        const python = process.argv[process.argv.indexOf('--python-interpreter') + 1];
        const reached = everywhere ? '--bind_all' : `--host=${address}`; // as the portal itself
        return [`"${python}"`, '-m', 'tensorboard.main', ...options.map(each => each.replace('--bind_all', reached))];
    };
    TensorboardManager.prototype.updateTensorboardTask = async function (id) {
        try {
            return await updateTensorboardTask.call(this, id);
        } catch (error) {
            this.log.error(error);
        }
    };
}
