// The repaired remote service of NNI's manager, with machines that are made up: what happens to them is said in words.
'use strict';

const [, , repairs, node, folder] = process.argv;
const fs = require('fs');
const path = require('path');
require(path.join(node, 'node_modules/app-module-path')).addPath(node);
process.chdir(node); // as the manager
const nothing = () => {};
const start = global.setTimeout;
const pause = milliseconds => new Promise(resolve => start(resolve, milliseconds));
global.setTimeout = (work, milliseconds, ...rest) => start(work, milliseconds / 100, ...rest); // a minute is 0.6 seconds
global.nni = {
    args: { logLevel: 'fatal' }, paths: { experimentRoot: folder }, logStream: { writeLine: nothing, writeLineSync: nothing },
    rest: { registerWebSocketHandler: nothing, getFullUrl: () => 'ws://', urlJoin: (...parts) => parts.join('/') },
};
const { repairMachines } = require(repairs);
require(path.join(node, 'common/globals')); // before what logs, as in the manager
const load = name => {
    const loaded = require(path.join(node, name));
    repairMachines(loaded);
    return loaded;
};
const { RpcHelper } = load('common/command_channel/rpc_util.js');
const { RemoteTrainingServiceV3 } = load('training_service/remote_v3/remote.js');
const { EventEmitter } = require('events');

// What Worker is to the service.
class Worker {
    constructor(service, id, config) {
        Object.assign(this, { channelId: id, envId: `remote-worker${id}`, config, uploadDir: path.join(folder, 'there', config.host, 'upload') });
        const events = this.events = new EventEmitter();
        const on = name => callback => events.on(name, callback);
        this.trialKeeper = {
            onTrialStart: on('start'), onTrialStop: on('stop'), onEnvironmentUpdate: on('env'),
            onReceiveCommand: (name, callback) => events.on(name, callback),
            createTrial: async () => { if (config.mute) { throw new Error('the connection has ended'); } return true; },
            sendCommand: async () => { throw new Error('the connection has ended'); },
        };
        this.ssh = { connect: async () => {}, sftp: async () => config.noSftp ? Promise.reject(new Error('no sftp here')) : sftp };
        this.env = { id: this.envId, host: config.host };
    }
    async start() { if (this.config.off) { throw new Error('connect ECONNREFUSED'); } }
    async upload() {}
    async stop() {}
    setChannel() {}
    downloadTrialLog() {}
}
repairMachines({ Worker });

const sftp = {
    readdir: (where, answer) => fs.existsSync(where)
        ? answer(null, fs.readdirSync(where, { withFileTypes: true }).map(each => ({ filename: each.name, attrs: each })))
        : answer(Object.assign(new Error('No such file'), { code: 2 })),
    fastGet: (there, here, options, answer) => fs.copyFile(there, here, answer),
};

function keep(host, trial, files) {
    for (const [name, text] of Object.entries(files)) {
        const file = path.join(folder, 'there', host, 'trials', trial, 'knas', name);
        fs.mkdirSync(path.dirname(file), { recursive: true });
        fs.writeFileSync(file, text);
    }
}

async function main() {
    fs.mkdirSync(path.join(folder, 'log'), { recursive: true });
    const told = {};
    const channel = new EventEmitter();
    Object.assign(channel, {
        name: 'x', send: nothing, onCommand: nothing, onClose: end => channel.on('close', end), onError: end => channel.on('error', end),
    });
    const call = new RpcHelper(channel).call(1, 'createTrial').catch(error => error.message);
    channel.emit('error', new Error());
    told.call = await call;

    const machineList = [{ host: 'a' }, { host: 'off', off: true }, { host: 'b', noSftp: true }, { host: 'c', mute: true }];
    const service = new RemoteTrainingServiceV3('remote', { machineList });
    const ended = told.ended = [];
    service.onTrialEnd((trial, time, code) => ended.push([trial, code, fs.existsSync(path.join(folder, 'knas/weights/7.pt'))]));
    told.begun = (await service.start()).map(env => env.host);
    const [a, b, c] = service.workers;

    const done = await service.createTrial(a.envId, 'train', 'code', 0, 'done');
    await service.createTrial(a.envId, 'train', 'code', 1, 'running');
    keep('a', done, { 'weights/7.pt': 'weights', 'results/7.json': '{}', 'tensorboard/trial-7/events.x.knas': '', 'record.sqlite': '', 'weights/evil': '' });
    await service.endTrial(a, 'done', 0, 0);
    told.created = await service.createTrial(c.envId, 'train', 'code', 2, 'mute');
    await service.createTrial(b.envId, 'train', 'code', 3, 'unfetched');
    await service.sendParameter('unfetched', '{"knas_candidate": 8}');
    await service.endTrial(b, 'unfetched', 0, 0);
    service.restartWorker(a);
    told.left = service.workers.map(worker => worker.config.host);
    told.stderr = fs.readFileSync(path.join(await service.downloadTrialDirectory('running'), 'trial.stderr'), 'utf8');
    await service.endTrial(a, 'running', 0, 0); // too late
    service.restartWorker(b);
    service.restartWorker(c);
    told.none = service.workers.length;
    machineList[1].off = false;
    for (let i = 0; i < 500 && service.workers.length < 4; i++) {
        await pause(10);
    }
    told.again = service.workers.map(worker => worker.config.host).sort();
    await service.stop();
    console.log(JSON.stringify(told));
    process.exit(0);
}

main();
