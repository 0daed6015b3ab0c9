// `npm run test:capture`: captured programs of many kinds, many at once, much at once. Not part of the suite.
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createServer as createHttpServer } from 'node:http';
import { createServer } from 'node:net';
import { text } from 'node:stream/consumers';
import { fileURLToPath } from 'node:url';
import t, { type Test } from 'tap';
import { type Capture, type CaptureOptions, createCapture } from '../../lib/capture/index.ts';
import { bulkServer } from '../fixtures/bulk.ts';
import { inCaptureWorld, PORT, startWorld, WEB } from '../fixtures/capture-world.ts';

const fixture = (name: string): string =>
  fileURLToPath(new URL(`../fixtures/programs/${name}`, import.meta.url));
/** What TypeScript does not copy. */
const source = (name: string): string => fixture(name).replace('/dist/', '/');
const NODE = process.execPath;
const MIB = Number(process.env['ORIGINAL_DST_BULK_MIB'] ?? 1024);

interface Seen {
  inside: Capture;
  /** `name address:port`, of each connection. */
  calls: string[];
}

async function capture(t: Test, options: CaptureOptions = {}): Promise<Seen> {
  const inside = await createCapture(options);
  t.teardown(() => inside.close());
  const calls: string[] = [];
  inside.on('error', (error) => t.error(error));
  inside.on('relay', (_, to, __, name) =>
    calls.push(to.kind === 'unknown' ? to.kind : `${name ?? '-'} ${to.address}:${to.port}`),
  );
  return { inside, calls };
}

async function output(child: ChildProcess): Promise<string> {
  const [out, [status]] = await Promise.all([text(child.stdout!), once(child, 'close')]);
  if (status !== 0) throw new Error(`exit ${status}: ${out}`);
  return out;
}

const piped = { stdio: ['ignore', 'pipe', 'inherit'] as ['ignore', 'pipe', 'inherit'] };

await inCaptureWorld(t, import.meta.url, async () => {
  const web = `web.test:${PORT}`;
  const hello = `hello from ${web}\n`;

  await t.test('a static binary that resolves by itself', async (t) => {
    await startWorld(t);
    const binary = `${t.testdir()}/client`;
    execFileSync('gcc', ['-static', '-O1', '-o', binary, source('static-client.c')]);
    const { inside, calls } = await capture(t);
    t.match(await output(inside.spawn(binary, ['web.test', String(PORT)], piped)), 'hello from web.test\n');
    t.same(calls, [`web.test ${WEB.v4}:${PORT}`]);
  });

  await t.test('Node’s fetch, Python’s urllib and asyncio', async (t) => {
    await startWorld(t);
    const { inside, calls } = await capture(t);
    const script = `fetch('http://${web}/').then(async (r) => process.stdout.write(await r.text()))`;
    t.equal(await output(inside.spawn(NODE, ['-e', script], piped)), hello);
    const urllib = `import urllib.request as u; print(u.urlopen("http://${web}/").read().decode(), end="")`;
    t.equal(await output(inside.spawn('python3', ['-c', urllib], piped)), hello);
    const asyncio = `
import asyncio
async def main():
  reader, writer = await asyncio.open_connection("web.test", ${PORT})
  writer.write(b"GET / HTTP/1.0\\r\\nHost: ${web}\\r\\n\\r\\n")
  print((await reader.read()).decode(), end="")
asyncio.run(main())`;
    t.match(await output(inside.spawn('python3', ['-c', asyncio], piped)), hello);
    t.equal(calls.length, 3);
    for (const call of calls) t.match(call, /^web\.test /);
  });

  await t.test('git clone', async (t) => {
    await startWorld(t);
    const dir = t.testdir({ repo: { file: 'of the repository' } });
    const git = (...args: string[]): void => {
      const who = ['-c', 'user.name=t', '-c', 'user.email=t@test', '-c', 'init.defaultBranch=main'];
      execFileSync('git', [...who, '-C', `${dir}/repo`, ...args], { stdio: 'pipe' });
    };
    git('init');
    git('add', '.');
    git('commit', '-m', 'all');
    const daemon = spawn('git', ['daemon', '--export-all', `--base-path=${dir}`, `--listen=${WEB.v4}`, dir]);
    t.teardown(() => daemon.kill());
    const { inside, calls } = await capture(t);
    for (let tries = 0; tries < 50; tries++) {
      try {
        await output(inside.spawn('git', ['clone', '-q', 'git://web.test/repo', `${dir}/clone`], piped));
        break;
      } catch {
        await new Promise((done) => setTimeout(done, 100)); // the daemon does not say when it listens
      }
    }
    t.equal(readFileSync(`${dir}/clone/file`, 'utf8'), 'of the repository');
    t.match(calls.at(-1), /^web\.test .*:9418$/);
  });

  await t.test('npm ci, from a registry', async (t) => {
    await startWorld(t);
    const dir = t.testdir({
      left: { 'package.json': '{"name":"left","version":"1.0.0"}', 'index.js': 'module.exports = "left"' },
      app: { 'package.json': '{"name":"app","version":"1.0.0","dependencies":{"left":"^1.0.0"}}' },
    });
    execFileSync('npm', ['pack', '--pack-destination', dir, `${dir}/left`], { stdio: 'pipe' });
    const tarball = readFileSync(`${dir}/left-1.0.0.tgz`);
    const integrity = `sha512-${createHash('sha512').update(tarball).digest('base64')}`;
    const url = `http://web.test:4873`;
    const registry = createHttpServer((request, response) => {
      if (request.url === '/left.tgz') return void response.end(tarball);
      const version = { name: 'left', version: '1.0.0', dist: { tarball: `${url}/left.tgz`, integrity } };
      if (request.url !== '/left') return void response.writeHead(404).end();
      response.end(
        JSON.stringify({ name: 'left', 'dist-tags': { latest: '1.0.0' }, versions: { '1.0.0': version } }),
      );
    }).listen(4873);
    t.teardown(() => void registry.close().closeAllConnections());
    const { inside, calls } = await capture(t);
    mkdirSync(`${dir}/home`);
    const options = { ...piped, cwd: `${dir}/app`, env: { ...process.env, HOME: `${dir}/home` } };
    const npm = (...args: string[]) =>
      output(inside.spawn('npm', [...args, '--registry', url, '--no-audit', '--no-fund'], options));
    await npm('install', '--package-lock-only');
    await npm('ci');
    t.equal(readFileSync(`${dir}/app/node_modules/left/index.js`, 'utf8'), 'module.exports = "left"');
    t.ok(calls.length >= 2);
    t.same(new Set(calls.map((call) => call.split(' ')[0])), new Set(['web.test']));
  });

  await t.test('a daemon outlives the command, for as long as the capture lasts', async (t) => {
    await startWorld(t);
    const dir = t.testdir();
    const { inside, calls } = await capture(t);
    const loop = `trap '' HUP; while :; do curl -sS -m 5 http://${web}/ >>${dir}/out 2>>${dir}/errors; sleep 0.05; done`;
    const child = inside.spawn(
      'sh',
      ['-c', `setsid bash -c '${loop.replaceAll("'", String.raw`'\''`)}' & echo $!`],
      piped,
    );
    const pid = Number(await new Promise((done) => child.stdout!.once('data', done)));
    t.teardown(() => process.kill(-pid, 'SIGKILL'));
    await once(child, 'exit');
    const before = calls.length;
    while (calls.length < before + 3) await once(inside, 'relay');
    await inside.close();
    writeFileSync(`${dir}/out`, '');
    await new Promise((done) => setTimeout(done, 500));
    t.equal(readFileSync(`${dir}/out`, 'utf8'), '', 'afterwards it reaches nobody');
    t.match(readFileSync(`${dir}/errors`, 'utf8'), /curl: /);
  });

  await t.test('200 connections at once', async (t) => {
    await startWorld(t);
    const echo = createServer((socket) => socket.on('error', () => {}).pipe(socket)).listen(6000);
    t.teardown(() => echo.close());
    const { inside, calls } = await capture(t);
    const script = `
      const { connect } = require('net');
      const one = (i) => new Promise((done, fail) => {
        const socket = connect(6000, '${WEB.v4}', () => setTimeout(() => socket.end(String(i).repeat(1000)), 500));
        let text = '';
        socket.on('data', (data) => (text += data)).on('error', fail).on('close', () => done(text === String(i).repeat(1000)));
      });
      Promise.all(Array.from({ length: 200 }, (_, i) => one(i))).then((all) => console.log(all.filter(Boolean).length));`;
    t.equal(await output(inside.spawn(NODE, ['-e', script], piped)), '200\n');
    t.equal(calls.length, 200);
  });

  await t.test(`${MIB} MiB each way`, async (t) => {
    await startWorld(t);
    const { inside } = await capture(t);
    const there = new Promise<{ sent: string; got: string }>((done) => {
      const server = bulkServer(MIB, done).listen(6001);
      t.teardown(() => server.close());
    });
    const began = performance.now();
    const args = [fixture('bulk-client.js'), WEB.v4, '6001', String(MIB)];
    const here = JSON.parse(await output(inside.spawn(NODE, args, piped))) as { sent: string; got: string };
    const sums = await there;
    t.equal(here.got, sums.sent);
    t.equal(here.sent, sums.got);
    t.comment(`${Math.round((2 * MIB) / ((performance.now() - began) / 1000))} MiB/s`);
  });

  await t.test('at a terminal: the window’s size, Ctrl-C', async (t) => {
    const script = `
import os, signal, time
def say(text): os.write(1, text.encode() + b"\\n")  # print() is not for signal handlers
def window(*_): say("window %d %d" % os.get_terminal_size(0)[::-1])
def interrupt(*_): say("interrupted"); os._exit(9)
signal.signal(signal.SIGWINCH, window); signal.signal(signal.SIGINT, interrupt)
say("up")
while True: time.sleep(1)`;
    const cli = fileURLToPath(new URL('../../lib/cli.js', import.meta.url));
    const command = [source('terminal.py'), NODE, cli, 'run', '--', 'python3', '-c', script];
    const said = await output(spawn('python3', command, piped));
    t.match(said, /^up\s*window 33 77\s+\^Cinterrupted\s+exit 9\n$/);
  });

  await t.test('20 captures at once', async (t) => {
    await startWorld(t);
    const all = await Promise.all(Array.from({ length: 20 }, () => capture(t)));
    const answers = await Promise.all(
      all.map(({ inside }) => output(inside.spawn('curl', ['-sS', `http://${web}/`], piped))),
    );
    t.same(new Set(answers), new Set([hello]));
    for (const { calls } of all) t.equal(calls.length, 1);
  });
});
