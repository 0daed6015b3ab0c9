// `original-dst run`: a command, and what it talks to. In this process, but for what takes one of its own.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, openSync, readFileSync } from 'node:fs';
import { connect } from 'node:net';
import { text } from 'node:stream/consumers';
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import { main } from '../../lib/cli/program.ts';
import { ECHO, inCaptureWorld, OTHER, PORT, startWorld, WEB } from '../fixtures/capture-world.ts';
import { standInProxy } from '../fixtures/proxies.ts';

type T = Parameters<typeof startWorld>[0];

const CLI = new URL('../../lib/cli.js', import.meta.url).pathname;
const get = (url: string): string => `curl -sS -m 20 -o /dev/null http://${url}/`;

/** Its exit status, and what it writes on standard error itself. The command's standard streams are this process's. */
async function run(...args: string[]): Promise<{ status: number; stderr: string }> {
  const { write } = process.stderr;
  let stderr = '';
  process.stderr.write = (chunk: unknown) => {
    stderr += String(chunk);
    return true;
  };
  try {
    await main(['node', 'original-dst', 'run', ...args]);
    return { status: Number(process.exitCode ?? 0), stderr };
  } finally {
    process.stderr.write = write;
    process.exitCode = undefined;
  }
}

/** The same in a process of its own, in a process group of its own. */
function start(t: T, args: string[]): ChildProcess {
  const child = spawn(process.execPath, [CLI, 'run', ...args], {
    detached: true,
    stdio: ['pipe', 'pipe', 'inherit', 'pipe'],
  });
  t.teardown(() => child.kill('SIGKILL'));
  return child;
}

const lines = (text: string): Record<string, unknown>[] =>
  text
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as Record<string, unknown>);

await inCaptureWorld(t, import.meta.url, async () => {
  await t.test('a table and a log say what it has talked to', async (t) => {
    await startWorld(t);
    const dir = t.testdir();
    const script = `${get(`web.test:${PORT}`)} -4; ${get(`web.test:${PORT}`)} -4; ${get(`${WEB.v4}:1`)} 2>/dev/null; exec 3<>/dev/udp/${WEB.v4}/${ECHO}; echo hi >&3; read -r -t 20 -N 10 -u 3 x; echo done >${dir}/out`;
    const { status, stderr } = await run('--log', `${dir}/log`, '--', 'bash', '-c', script);
    t.equal(status, 0);
    t.equal(readFileSync(`${dir}/out`, 'utf8'), 'done\n');
    t.match(stderr, /^NAME +DESTINATION +COUNT +↑ +↓ +VERDICT$/m);
    t.match(stderr, /^web\.test +203\.0\.113\.9:8080 +2 +\d+ B +\d+ B +passed$/m);
    t.match(stderr, /^web\.test +203\.0\.113\.9:1 +1 +0 B +0 B +ECONNREFUSED$/m);
    t.match(stderr, /^web\.test +203\.0\.113\.9:7000 +1 +3 B +11 B +passed$/m);
    const records = lines(readFileSync(`${dir}/log`, 'utf8'));
    t.same(new Set(records.map(({ event }) => event)), new Set(['query', 'relay', 'datagrams']));
    t.match(
      records.find(({ event }) => event === 'relay'),
      {
        name: 'web.test',
        destination: { address: WEB.v4, port: PORT },
        end: 'passed',
        pid: Number,
        command: ['curl', '-sS'],
      },
    );
  });

  await t.test('what is denied, and the exit status of that; a log for people', async (t) => {
    const { connections } = await startWorld(t);
    const dir = t.testdir({ 'rules.json': JSON.stringify({ allow: ['web.test'], deny: ['web.test:1'] }) });
    const script = `exec 2>/dev/null; ${get(`web.test:${PORT}`)} -4; ${get(`${OTHER}:${PORT}`)}; ${get('other.test')}; echo hi >/dev/udp/${WEB.v4}/${ECHO}; exit 0`;
    const log = openSync(`${dir}/log`, 'a');
    const denied = await run(
      '--policy',
      `${dir}/rules.json`,
      '--log',
      `fd:${log}`,
      '--log-format',
      'text',
      '--fail-on-denied',
      'bash',
      '-c',
      script,
    );
    t.equal(denied.status, 3);
    t.match(denied.stderr, /203\.0\.113\.10:8080 +1 +0 B +0 B +denied: unnamed: deny/);
    t.match(denied.stderr, /^other\.test +\d+ +0 B +0 B +denied: default: deny$/m);
    const told = readFileSync(`${dir}/log`, 'utf8');
    const time = String.raw`^\d{4}-\d\d-\d\dT[\d:.]+Z`;
    for (const line of [
      String.raw`relay curl\[\d+\] web\.test 203\.0\.113\.9:8080 ↑ \d+ B ↓ \d+ B \d+ ms passed$`,
      String.raw`denied curl\[\d+\] 203\.0\.113\.10:8080 denied: unnamed: deny$`,
      String.raw`denied (?:curl\[\d+\] )?other\.test denied: default: deny$`,
      String.raw`query (?:curl\[\d+\] )?web\.test A forwarded$`,
      String.raw`datagrams (?:bash\[\d+\] )?web\.test 203\.0\.113\.9:7000 passed$`,
    ])
      t.match(told, new RegExp(`${time} ${line}`, 'm'));
    const failed = await run(
      '--allow',
      'web.test',
      '--fail-on-denied',
      '-q',
      '--',
      'sh',
      '-c',
      `${get(OTHER)} 2>/dev/null; exit 4`,
    );
    t.same(failed, { status: 4, stderr: '' });
    const passed = await run(
      '--deny',
      '192.0.2.0/24',
      '--fail-on-denied',
      '--no-dns',
      '--',
      'sh',
      '-c',
      get(`${OTHER}:${PORT}`),
    );
    t.equal(passed.status, 0, passed.stderr);
    t.same(connections, [WEB.v4, OTHER]);
    t.match(await run('--deny', '::/200', 'true'), { status: 1, stderr: /original-dst: / });
    t.match(await run('--policy', '/nowhere', 'true'), { status: 1, stderr: /ENOENT/ });
    t.match(await run('--log', '/nowhere/log', 'true'), { status: 1, stderr: /ENOENT/ });
    t.match(await run('--log', 'fd:1048000', 'true'), { status: 1, stderr: /EBADF/ });
    t.match(await run('--log', 'fd:', 'true'), { status: 2, stderr: /whole number/ });
  });

  await t.test('by way of another proxy, which takes no datagrams', async (t) => {
    await startWorld(t);
    for (const protocol of ['socks5', 'http'] as const) {
      const proxy = await standInProxy(t, protocol);
      const url = `${protocol}://127.0.0.1:${proxy.port}`;
      const script = `${get(`web.test:${PORT}`)} -4; ! echo hi 2>/dev/null >/dev/udp/${WEB.v4}/${ECHO}`;
      const { status, stderr } = await run('--via', url, '--', 'bash', '-c', script);
      t.equal(status, 0, stderr);
      t.match(stderr, /^web\.test +203\.0\.113\.9:8080 +1 +\d+ B +\d+ B +passed$/m);
      t.notMatch(stderr, '7000');
      t.same(proxy.asked, [`${WEB.v4}:${PORT}`]);
    }
    t.match(await run('--via', 'socks5://[::1]', '--udp', 'relay', 'true'), {
      status: 2,
      stderr: /--via and --udp relay exclude each other/,
    });
    const gone = await run('--via', 'socks5://127.0.0.1:1', '--', 'sh', '-c', `! ${get(WEB.v4)} 2>/dev/null`);
    t.match(gone, { status: 0, stderr: /203\.0\.113\.9:80 +1 +0 B +0 B +ECONNREFUSED/ });
  });

  await t.test('its exit status is the command’s, and its environment', async (t) => {
    const before = process.listenerCount('SIGTERM');
    t.same(await run('sh', '-c', 'exit 7'), { status: 7, stderr: '' });
    t.match(await run('sh', '-c', 'kill -KILL $$'), { status: 137 });
    t.match(await run('no-such-command'), {
      status: 127,
      stderr: /^original-dst: spawn no-such-command ENOENT/,
    });
    t.match(await run('/tmp'), { status: 126 });
    t.match(await run('--env-ca', '/ca.pem', '--', 'sh', '-c', '[ $SSL_CERT_FILE = /ca.pem ]'), {
      status: 0,
    });
    t.match(await run('--host-port', '1:2:3', 'true'), { status: 2, stderr: /a port or two/ });
    t.equal(process.listenerCount('SIGTERM'), before, 'signals are this process’s own again');
  });

  await t.test('ports: of the host in there, and of the command out here', async (t) => {
    await startWorld(t);
    const dir = t.testdir();
    const serve = `require("net").createServer(function (s) { s.end("from inside"); this.close(); }).listen(9998, () => fs.writeFileSync("${dir}/up", ""))`;
    const script = `${get(`127.0.0.1:81`)} && ${get(`localhost:${PORT}`)} && ${process.execPath} -e '${serve}'`;
    const ports = ['--host-port', `81:${PORT}`, '--host-port', String(PORT), '--publish', '9998'];
    const running = run(...ports, 'sh', '-c', script);
    while (!existsSync(`${dir}/up`)) await sleep(5);
    t.equal(await text(connect(9998, '127.0.0.1')), 'from inside');
    t.match(await running, { status: 0 });
  });

  await t.test('standard input, signals, and a log by a descriptor', async (t) => {
    await startWorld(t);
    const trap = (signal: string): string =>
      `trap 'echo got it; exit 9' ${signal}; echo up; while :; do sleep 0.05; done`;
    const reading = start(t, [
      '--log',
      'fd:3',
      '--',
      'sh',
      '-c',
      `cat; ${get(`${WEB.v4}:${PORT}`)}; [ ! -e /proc/self/fd/3 ] || echo leaked`,
    ]);
    reading.stdin!.end('what it reads');
    const logged = text(reading.stdio[3] as NodeJS.ReadableStream);
    const interrupted = start(t, ['bash', '-c', trap('INT')]);
    t.equal(await text(reading.stdout!), 'what it reads');
    t.match(lines(await logged), [{ event: 'relay', destination: { address: WEB.v4 }, end: 'passed' }]);
    const terminated = start(t, ['bash', '-c', trap('TERM')]);
    for (const [child, to, signal] of [
      [interrupted, -interrupted.pid!, 'SIGINT'],
      [terminated, terminated.pid!, 'SIGTERM'],
    ] as const) {
      let text = '';
      child.stdout!.setEncoding('utf8').on('data', (more: string) => (text += more));
      await once(child.stdout!, 'data');
      process.kill(to, signal);
      t.same(await once(child, 'exit'), [9, null], signal);
      t.equal(text, 'up\ngot it\n');
    }
  });

  await t.test(
    'kill -9 of the runner: its connections end, and nothing else is left to be reached',
    async (t) => {
      await startWorld(t);
      const script = `exec 3<>/dev/tcp/${WEB.v4}/${PORT + 1}; echo up; read -r <&3; ${get(`${WEB.v4}:${PORT}`)} 2>/dev/null; echo over $?`;
      const child = start(t, ['bash', '-c', script]);
      let text = '';
      child.stdout!.setEncoding('utf8').on('data', (more: string) => (text += more));
      await once(child.stdout!, 'data');
      child.kill('SIGKILL');
      await once(child.stdout!, 'end');
      t.equal(text, 'up\nover 7\n');
    },
  );
});
