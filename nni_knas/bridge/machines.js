// Repairs of NNI 3.0's remote service, loaded into its manager by repairs.js: machines may be lost and come back, and what
// trials keep comes here over the SSH connection that NNI has to each machine anyway.
//
// NNI kept a machine that could not be reached among those that get trials, waited for ever for the answer of one that was
// lost, did not notice one that was switched off, and did not begin where one of several could not be reached.
'use strict';

const fs = require('fs');
const path = require('path');

const AGAIN = 30_000; // milliseconds between two attempts to reach a machine that was lost
const SILENT = 4; // heartbeats without an answer, of five seconds each, after which a connection is taken for broken
const STALLED = 60_000; // milliseconds without a byte after which a file is given up
const LOST = 255; // the exit code of a trial whose machine was lost: of a null, NNI says that the user has cancelled it
const KEPT = ['tensorboard', 'weights', 'results']; // a result comes last: with it a training counts as finished
const KEPT_FILE = /^(tensorboard\/trial-\d+\/events\.[\w.-]+|weights\/\d+\.pt|results\/\d+\.json)$/;

exports.repairMachines = function (loaded) {
    if (typeof loaded.getTarballPath === 'function') {
        repairService.tarballs = loaded;
    }
    for (const [name, mark, repair] of REPAIRS) {
        const found = loaded[name];
        if (typeof found === 'function' && found.prototype && mark in found.prototype && !found.repairedByKnas) {
            found.repairedByKnas = true;
            repair(found);
        }
    }
};

const REPAIRS = [
    ['RpcHelper', 'waitResponse', repairCalls],
    ['RemoteTrialKeeper', 'setChannel', repairKeeper],
    ['Client', 'forwardIn', repairClient],
    ['Ssh', 'sftp', repairSsh],
    ['Worker', 'downloadTrialLog', repairWorker],
    ['RemoteTrainingServiceV3', 'launchWorker', repairService],
];

const pause = milliseconds => new Promise(resolve => setTimeout(resolve, milliseconds));
const root = () => global.nni.paths.experimentRoot;

// What the search tells the user.
function say(sentence) {
    fs.appendFileSync(path.join(root(), 'log', 'machines.log'), sentence.replaceAll('\n', ' ') + '\n');
}

const reasonOf = error => String((error && error.message) || error).split('\n')[0];

// A call was waited for when the connection that was to bring its answer had ended: no trial was submitted any more.
function repairCalls(RpcHelper) {
    const losses = new WeakMap();
    const lossOf = channel => {
        if (!losses.has(channel)) {
            const loss = new Promise((_, reject) => {
                const end = () => reject(new Error('the connection has ended'));
                channel.onClose(end);
                channel.onError(end);
            });
            loss.catch(() => {}); // whoever waits hears of it
            losses.set(channel, loss);
        }
        return losses.get(channel);
    };
    const wait = RpcHelper.prototype.waitResponse;
    RpcHelper.prototype.waitResponse = function (id) {
        if (this.channel.closing) {
            return Promise.reject(new Error('the connection has ended'));
        }
        return Promise.race([wait.call(this, id), lossOf(this.channel)]);
    };
}

function repairKeeper(RemoteTrialKeeper) {
    const setChannel = RemoteTrialKeeper.prototype.setChannel;
    RemoteTrialKeeper.prototype.setChannel = function (channel) {
        this.initialized.promise.catch(() => {});
        return setChannel.call(this, channel).catch(error => this.initialized.reject(error));
    };
}

// A connection that ended with an error ended the manager, since nobody listened to it; and one that was silent never ended.
function repairClient(Client) {
    const connect = Client.prototype.connect;
    Client.prototype.connect = function (config) {
        this.on('error', () => {}); // who uses it hears of it, too
        return connect.call(this, { keepaliveInterval: 10_000, keepaliveCountMax: SILENT, ...config });
    };
}

function repairSsh(Ssh) {
    const connect = Ssh.prototype.connect;
    Ssh.prototype.connect = function () {
        this.sftpSession = null; // of the connection before
        return connect.call(this);
    };
}

function repairWorker(Worker) {
    repairService.Worker = Worker;
    const { setChannel, start } = Worker.prototype;
    Worker.prototype.setChannel = function (channel) {
        setChannel.call(this, channel);
        const timer = setInterval(() => {
            if (channel.closing) {
                clearInterval(timer);
            } else if (channel.connection && channel.connection.missingPongs >= SILENT) {
                channel.connection.ws.terminate(); // it is made anew from there, or lost
            }
        }, 1000);
    };
    // NNI upgraded itself on each machine, from PyPI and whatever version was there, and then imported itself to see which.
    Worker.prototype.start = function () {
        const run = this.ssh.run;
        this.ssh.run = async command => {
            if (/ -m pip install nni --upgrade$| -c "import nni ; print\(nni.__version__\)"$/.test(command)) {
                const version = 'import importlib.metadata ; print(importlib.metadata.version(\'nni\'))';
                const there = await this.ssh.exec(`${this.python} -c "${version}"`);
                if (there.code === 0) {
                    return there.stdout.trim();
                }
            }
            return await run.call(this.ssh, command);
        };
        return start.call(this);
    };
}

function repairService(Service) {
    const { sendParameter, createTrial } = Service.prototype;

    Service.prototype.start = async function () {
        this.log.info('Starting remote training service...');
        fs.writeFileSync(path.join(root(), 'log', 'machines.log'), '');
        await this.server.start();
        const machines = this.config.machineList;
        const launched = await Promise.allSettled(machines.map(machine => this.launchWorker(machine)));
        launched.forEach((outcome, i) => {
            if (outcome.status === 'rejected') {
                this.log.error('Cannot use machine', machines[i].host, outcome.reason);
                say(`The machine ${machines[i].host} cannot be used: ${reasonOf(outcome.reason)}.`);
            }
        });
        if (this.workers.length === 0) {
            throw new Error('no machine can be used'); // it ends the manager, see repairs.py
        }
        machines.filter((_, i) => launched[i].status === 'rejected').forEach(machine => this.awaitMachine(machine));
        return this.workers.map(worker => worker.env);
    };

    const stop = Service.prototype.stop;
    Service.prototype.stop = function () {
        this.stopping = true;
        return stop.call(this);
    };

    // A machine gets trials when it is ready for them, and not before.
    Service.prototype.launchWorker = async function (config) {
        this.lastWorkerIndex += 1;
        const id = String(this.lastWorkerIndex);
        const url = this.server.getChannelUrl(id, this.config.nniManagerIp);
        const worker = new repairService.Worker(this.id, id, config, url, Boolean(this.config.trialGpuNumber));
        const keeper = worker.trialKeeper;
        keeper.onTrialStart((trial, time) => this.emitter.emit('trial_start', trial, time));
        keeper.onTrialStop((trial, time, code) => this.endTrial(worker, trial, time, code));
        keeper.onReceiveCommand('request_parameter', trial => this.emitter.emit('request_parameter', trial));
        keeper.onReceiveCommand('metric', (trial, command) => this.emitter.emit('metric', trial, command['metric']));
        keeper.onEnvironmentUpdate(env => {
            worker.env = { ...env, host: config.host };
            this.emitEnvUpdate();
        });
        this.workersByChannel.set(id, worker);
        try {
            await worker.start();
            for (const name of this.uploadedDirs) {
                await worker.upload(name, repairService.tarballs.getTarballPath(name));
            }
        } catch (error) {
            this.workersByChannel.delete(id);
            throw error;
        }
        this.workersByEnv.set(worker.envId, worker);
        this.workers.push(worker);
        return worker;
    };

    // Called when the connection to a machine has ended, and could not be made anew.
    Service.prototype.restartWorker = async function (worker) {
        if (this.stopping || !this.workers.includes(worker)) {
            return;
        }
        this.stopWorker(worker, true);
        const host = worker.config.host;
        say(`The machine ${host} was lost: what ran there is begun anew on the others, and it is tried again every ` +
            `${AGAIN / 1000} seconds.`);
        if (this.workers.length === 0) {
            say('No machine is left: the search waits until one can be reached again.');
        }
        await this.awaitMachine(worker.config);
    };

    Service.prototype.awaitMachine = async function (config) {
        for (;;) {
            await pause(AGAIN);
            if (this.stopping) {
                return;
            }
            try {
                await this.launchWorker(config);
                break;
            } catch (error) {
                this.log.warning(`The machine ${config.host} is not there:`, reasonOf(error));
            }
        }
        this.emitEnvUpdate();
        say(`The machine ${config.host} takes part again.`);
    };

    Service.prototype.stopWorker = function (lost, emitEnvUpdate) {
        this.workers = this.workers.filter(worker => worker !== lost);
        if (emitEnvUpdate) {
            this.emitEnvUpdate();
        }
        this.workersByChannel.delete(lost.channelId);
        this.workersByEnv.delete(lost.envId);
        for (const [trial, worker] of this.workersByTrial) {
            if (worker === lost) {
                this.workersByTrial.delete(trial);
                this.loseTrial(trial, lost.config.host);
            }
        }
    };

    // It ends as failed, and its error output says why.
    Service.prototype.loseTrial = function (trial, host) {
        const ended = this.ended ??= new Set();
        if (!ended.has(trial)) {
            ended.add(trial);
            const folder = path.join(root(), 'trials', trial);
            fs.mkdirSync(folder, { recursive: true });
            fs.writeFileSync(path.join(folder, 'trial.stderr'), `nni_knas: the machine ${host} was lost while it ran this trial\n`);
            this.emitter.emit('trial_stop', trial, Date.now(), LOST);
        }
    };

    // What it keeps is here before anybody hears of its end.
    Service.prototype.endTrial = async function (worker, trial, time, code) {
        try {
            await fetchKept(worker, trial);
        } catch (error) {
            this.log.error(`What the trial ${trial} keeps could not be fetched:`, error);
            const candidate = (this.candidates ??= new Map()).get(trial);
            if (candidate !== undefined && this.workers.includes(worker)) {
                noteUnfetched(candidate, worker.config.host, error);
            }
        }
        const ended = this.ended ??= new Set();
        if (!ended.has(trial)) { // its machine may have been lost meanwhile
            ended.add(trial);
            this.emitter.emit('trial_stop', trial, time, code);
        }
    };

    Service.prototype.createTrial = async function (...request) {
        try {
            return await createTrial.apply(this, request);
        } catch (error) {
            this.log.warning('Cannot create trial:', reasonOf(error));
            await pause(1000); // it is tried again at once, on the next machine, which may be the same
            return null;
        }
    };

    Service.prototype.sendParameter = async function (trial, parameter) {
        const candidate = /"knas_candidate": ?(\d+)/.exec(parameter);
        if (candidate) {
            (this.candidates ??= new Map()).set(trial, candidate[1]);
        }
        try {
            await sendParameter.call(this, trial, parameter);
        } catch (error) { // its machine is being lost
            this.log.warning(`The trial ${trial} got no parameter:`, reasonOf(error));
        }
    };

    const download = Service.prototype.downloadTrialDirectory;
    Service.prototype.downloadTrialDirectory = async function (trial) {
        const folder = path.join(root(), 'trials', trial);
        return !this.workersByTrial.has(trial) && fs.existsSync(folder) ? folder : await download.call(this, trial);
    };
}

// The files that a trial keeps, see nni_knas/runs/ranked.py, from its own folder on its machine into the experiment's here.
async function fetchKept(worker, trial) {
    const there = path.posix.join(path.posix.dirname(worker.uploadDir), 'trials', trial, 'knas');
    try {
        await fetchFrom(worker, there);
    } catch (error) { // a connection that was idle for long may have ended, and the machine be there
        await worker.ssh.connect();
        await fetchFrom(worker, there);
    }
}

async function fetchFrom(worker, there) {
    const sftp = await worker.ssh.sftp();
    for (const folder of KEPT) {
        for (const name of await filesBelow(sftp, path.posix.join(there, folder))) {
            const file = path.posix.join(folder, name);
            if (KEPT_FILE.test(file)) { // a machine writes nothing else here
                await fetchFile(sftp, path.posix.join(there, file), path.join(root(), 'knas', file));
            }
        }
    }
}

async function filesBelow(sftp, folder) {
    const entries = await new Promise((resolve, reject) => {
        sftp.readdir(folder, (error, list) => (error && error.code !== 2 ? reject(error) : resolve(list ?? []))); // 2: none
    });
    const names = await Promise.all(entries.map(async entry => {
        if (!entry.attrs.isDirectory()) {
            return [entry.filename];
        }
        return (await filesBelow(sftp, path.posix.join(folder, entry.filename))).map(name => `${entry.filename}/${name}`);
    }));
    return names.flat();
}

// As a whole or not at all.
async function fetchFile(sftp, there, here) {
    const unfinished = `${here}.${process.pid}`;
    fs.mkdirSync(path.dirname(here), { recursive: true });
    try {
        await new Promise((resolve, reject) => {
            const stalled = () => reject(new Error(`no byte of ${there} came for ${STALLED / 1000} seconds`));
            let timer = setTimeout(stalled, STALLED);
            const step = () => {
                clearTimeout(timer);
                timer = setTimeout(stalled, STALLED);
            };
            sftp.fastGet(there, unfinished, { step }, error => {
                clearTimeout(timer);
                error ? reject(error) : resolve();
            });
        });
        fs.renameSync(unfinished, here);
    } finally {
        fs.rmSync(unfinished, { force: true });
    }
}

// Where the weights would be, for who asks for them.
function noteUnfetched(candidate, host, error) {
    const note = path.join(root(), 'knas', 'weights', `${candidate}.txt`);
    fs.mkdirSync(path.dirname(note), { recursive: true });
    fs.writeFileSync(note, `they could not be fetched from ${host}: ${reasonOf(error)}`);
}
