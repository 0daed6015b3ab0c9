// The demo as a command: what it prints, its exit status, and what it does where it cannot do its work.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import t, { type Test } from 'tap';
import { mockImport } from '../fixtures/mock.ts';
import { runDemo } from '../../lib/demo/run.ts';
import { codedError } from '../../lib/errors.ts';
import { inNamespace, sh } from '../fixtures/netns.ts';

const script = fileURLToPath(new URL('../../lib/demo/main.js', import.meta.url));
const main = [process.execPath, script];
/** With tap's hooks, for coverage, in all the processes of the demo: three times as slow. */
const covered = [process.execPath, ...process.execArgv, script];

/** A search path with shell scripts of the test's own in the place of some of the programs that the demo uses. */
function path(t: Test, programs: Record<string, string>): string {
  const bin = t.testdir({});
  for (const [name, body] of Object.entries(programs)) {
    writeFileSync(join(bin, name), `#!/bin/sh\n${body}\n`);
    chmodSync(join(bin, name), 0o755);
  }
  return `${bin}:${process.env['PATH']}`;
}

function start(t: Test, programs: Record<string, string> = {}, command = main): ChildProcess {
  const [file, ...args] = command as [string, ...string[]];
  return spawn(file, args, {
    env: { ...process.env, PATH: path(t, programs) },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
}

/** Runs the demo from this process, as far as it comes with that search path. */
async function runHere(t: Test, searchPath: string): Promise<{ status: number; said: string }> {
  const errors = t.capture(console, 'error', () => {});
  t.intercept(process, 'env', { value: { ...process.env, PATH: searchPath } });
  const status = await runDemo();
  const said = errors().map(({ args }) => args.join(' '));
  return { status, said: said.join('\n') };
}

interface Ended {
  status: number | null;
  stdout: string;
  stderr: string;
}

async function run(...args: Parameters<typeof start>): Promise<Ended> {
  const child = start(...args);
  const exit = once(child, 'exit') as Promise<[number | null]>;
  const [stdout, stderr] = await Promise.all([text(child.stdout!), text(child.stderr!)]);
  return { status: (await exit)[0], stdout, stderr };
}

/** The command line that runs a command on a terminal of its own. */
function onTerminal(command: string[]): string[] {
  return ['script', '--quiet', '--return', '--command', command.join(' '), '/dev/null'];
}

/** A process and all that it started. */
function withDescendants(pid: number): number[] {
  const children = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').split(' ').filter(Boolean);
  return [pid, ...children.flatMap((child) => withDescendants(Number(child)))];
}

await inNamespace(t, import.meta.url, () => {
  t.test('all connections are as expected', async (t) => {
    const { status, stdout, stderr } = await run(t);
    t.equal(stderr, '');
    t.match(stdout, /^14 of 14 connections as expected in \d+\.\d s$/m);
    t.match(
      stdout,
      /^✓ +plain TCP +192\.0\.2\.2:40003 +→ 192\.0\.2\.1:15001 +→ 198\.51\.100\.30:9000 +redirect +1 000 003 +\d+ +198\.51\.100\.1$/m,
    );
    t.match(
      stdout,
      /^✓ +curl HTTPS +\[2001:db8::2\]:40011 +→ \[2001:db8:b::20\]:443 +→ \[2001:db8:b::20\]:443 +tproxy .* 2001:db8::2$/m,
    );
    t.notOk(stdout.includes('\u001b['), 'no colours in a pipe');
    t.equal(status, 0);
  });

  t.test('colours on a terminal; no user namespace where they are switched off, for root', async (t) => {
    const unshare = '[ "$1" = -nm ] || exit 1; exec /usr/bin/unshare "$@"';
    // All that Node takes as a word on colours.
    const unset = ['NO_COLOR', 'NODE_DISABLE_COLORS', 'FORCE_COLOR', 'CI'].flatMap((name) => ['-u', name]);
    const terminal = ['env', ...unset, 'TERM=xterm-256color', ...onTerminal(covered)];
    const { status, stdout } = await run(t, { unshare }, terminal);
    t.match(stdout, '\u001b[32m14 of 14 connections as expected\u001b[39m');
    t.equal(status, 0);
  });

  t.test('without rules every intercepted line is wrong, and the status says so', async (t) => {
    // On a terminal, but colourless.
    const terminal = ['env', 'NO_COLOR=1', 'TERM=xterm-256color', ...onTerminal(main)];
    // Nothing intercepts and nothing forwards; that a client need not wait for it, it loses its route, too.
    const nft = 'ip -n client route del default; ip -n client -6 route del default';
    const { status, stdout } = await run(t, { nft }, terminal);
    t.match(stdout, /^2 of 14 connections as expected/m);
    t.match(
      stdout,
      /^✗ +curl HTTP +192\.0\.2\.2:40001 +→ - +→ - .*\r\n +the connection did not reach the proxy\r\n +the client failed: curl: \(7\) /m,
    );
    t.notOk(stdout.includes('\u001b['), 'no colours');
    t.equal(status, 1);
  });

  t.test('what goes wrong on the stage is said in one line', async (t) => {
    const rules = await run(t, { nft: 'cat >/dev/null; echo no such table >&2; exit 1' }, covered);
    t.match(rules.stderr, /^demo: Command failed: \/.*\/nft -f -\nno such table\n$/);
    t.equal(rules.status, 1);
    const servers = await run(t, { openssl: 'exit 7' });
    t.match(servers.stderr, /^demo: the servers did not start: exit status 1$/m);
    t.equal(servers.status, 1);
  });

  t.test('a missing tool is named, and what to install', async (t) => {
    const tools = ['curl', 'openssl'].map((tool) => sh(`command -v ${tool}`).trim());
    for (const tool of tools) sh(`mount --bind /dev/null ${tool}`);
    const { status, said } = await runHere(t, `undefined:${process.env['PATH']}`);
    for (const tool of tools) sh(`umount ${tool}`);
    t.match(
      said,
      'demo: missing: curl, openssl. Install them first, on Debian or Ubuntu: sudo apt-get install curl openssl',
    );
    t.equal(status, 1);
  });

  t.test('namespaces that cannot be made', async (t) => {
    const unshare = 'echo unshare: not permitted >&2; exit 1';
    const { status, said } = await runHere(t, path(t, { unshare }));
    t.match(
      said,
      /^demo: cannot make a network namespace: unshare: not permitted\. Allow user namespaces .*$/,
    );
    t.equal(status, 1);
  });

  t.test('nor kept', async (t) => {
    const unshare = '[ "$2" = true ] || kill -9 $$';
    t.same(await runHere(t, path(t, { unshare })), { status: 1, said: '' });
  });

  t.test('nothing outlives the command, whatever ends it', async (t) => {
    const directory = t.testdir({});
    const [started, end] = [join(directory, 'started'), join(directory, 'end')];
    // No touch and no sleep: each would be one more.
    const openssl = `: >'${started}'; until [ -p '${end}' ]; do :; done; read -r line <'${end}'`;
    const child = start(t, { openssl }, covered);
    sh(`mkfifo '${end}'`); // start() empties the directory
    while (!existsSync(started)) await delay(20);
    const family = withDescendants(child.pid!);
    t.equal(family.length, 5, 'the command, unshare, the inside, the servers, openssl');
    child.kill('SIGKILL');
    // openssl ends, and the servers, which wait for it, find nobody to serve. Not to be opened for writing alone, which
    // would wait for a reader.
    writeFileSync(end, '\n', { flag: 'r+' });
    const alive = (): number[] => family.filter((pid) => existsSync(`/proc/${pid}/exe`));
    const deadline = Date.now() + 60_000;
    while (alive().length > 0 && Date.now() < deadline) await delay(50);
    t.same(alive(), []);
  });

  t.test('without a binary it says so', async (t) => {
    const errors = t.capture(console, 'error');
    const module = (name: string): string => new URL(`../../lib/${name}.js`, import.meta.url).href;
    const mocked = await mockImport<typeof import('../../lib/demo/run.ts')>(module('demo/run'), {
      [module('binding')]: {
        binding: () => {
          throw codedError('ERR_BINDING_NOT_LOADED', 'no native binary');
        },
      },
    });
    t.equal(await mocked.runDemo(), 1);
    t.match(errors(), [{ args: ['demo: no native binary'] }]);
  });
});
