// `original-dst run`: a command, and what it talks to.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import t from 'tap';
import { cli, type CliResult, RunningCli } from '../fixtures/cli.ts';
import { ECHO, inCaptureWorld, OTHER, PORT, startWorld, WEB } from '../fixtures/capture-world.ts';

const get = (url: string): string => `curl -sS -m 20 -o /dev/null http://${url}/`;

/** Asynchronously: the servers are in this process. */
async function run(t: Parameters<typeof startWorld>[0], args: string[], env = {}): Promise<CliResult> {
  const running = new RunningCli(t, ['run', ...args], env);
  const status = await running.ended;
  return { status: status as number, stdout: running.stdout, stderr: running.stderr };
}

await inCaptureWorld(t, import.meta.url, async () => {
  await t.test('a table and a log say what it has talked to', async (t) => {
    await startWorld(t);
    const log = `${t.testdir()}/log`;
    const script = `${get(`web.test:${PORT}`)} -4; ${get(`web.test:${PORT}`)} -4; ${get(`${WEB.v4}:1`)}; echo hi >/dev/udp/${WEB.v4}/${ECHO}; sleep 0.3; echo done`;
    const { status, stdout, stderr } = await run(t, ['--log', log, '--', 'bash', '-c', script]);
    t.equal(status, 0);
    t.equal(stdout, 'done\n');
    t.match(stderr, /^NAME +DESTINATION +COUNT +↑ +↓ +VERDICT$/m);
    t.match(stderr, /^web\.test +203\.0\.113\.9:8080 +2 +\d+ B +\d+ B +passed$/m);
    t.match(stderr, /^web\.test +203\.0\.113\.9:1 +1 +0 B +0 B +ECONNREFUSED$/m);
    t.match(stderr, /^web\.test +203\.0\.113\.9:7000 +1 +3 B +\d+ B +passed$/m);
    const records = readFileSync(log, 'utf8')
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as { event: string });
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

  await t.test('what is denied, and the exit status of that', async (t) => {
    const { connections } = await startWorld(t);
    const file = t.testdir({ 'rules.json': JSON.stringify({ allow: ['web.test'], deny: ['web.test:1'] }) });
    const script = `${get(`web.test:${PORT}`)} -4; ${get(`${OTHER}:${PORT}`)}; ${get('other.test')}; exit 0`;
    const rules = ['--policy', `${file}/rules.json`, '--udp', 'reject'];
    const denied = await run(t, [...rules, '--fail-on-denied', 'sh', '-c', script]);
    t.equal(denied.status, 3);
    t.match(denied.stderr, /203\.0\.113\.10:8080 +1 +0 B +0 B +denied: unnamed: deny/);
    t.match(denied.stderr, /^other\.test +\d+ +0 B +0 B +denied: default: deny$/m);
    const failed = await run(t, [
      '--allow',
      'web.test',
      '--fail-on-denied',
      '-q',
      '--',
      'sh',
      '-c',
      `${get(OTHER)}; exit 4`,
    ]);
    t.equal(failed.status, 4);
    t.notMatch(failed.stderr, 'NAME');
    const passed = await run(t, [
      '--deny',
      '192.0.2.0/24',
      '--fail-on-denied',
      '--no-dns',
      '--',
      'sh',
      '-c',
      get(`${OTHER}:${PORT}`),
    ]);
    t.equal(passed.status, 0, passed.stderr);
    t.same(connections, [WEB.v4, OTHER]);
    t.match(await run(t, ['--deny', '::/200', 'true']), { status: 1, stderr: /original-dst: / });
    t.match(await run(t, ['--policy', '/nowhere', 'true']), { status: 1, stderr: /ENOENT/ });
  });

  await t.test('its status, signals and standard input are the command’s', async (t) => {
    t.match(await run(t, ['sh', '-c', 'exit 7']), { status: 7, stderr: '' });
    t.match(await run(t, ['sh', '-c', 'kill -KILL $$']), { status: 137 });
    t.match(await run(t, ['no-such-command']), {
      status: 127,
      stderr: /^original-dst: spawn no-such-command ENOENT/,
    });
    t.match(await run(t, ['/tmp']), { status: 126, stderr: /EACCES|nsenter|unshare/ });
    t.equal(cli(['run', 'cat'], {}, 'what it reads').stdout, 'what it reads');
    t.equal(cli(['run', '--env-ca', '/ca.pem', '--', 'sh', '-c', 'echo $SSL_CERT_FILE']).stdout, '/ca.pem\n');
    t.match(cli(['run', '--host-port', '1:2:3', 'true']), { status: 2, stderr: /a port or two/ });
    for (const [signal, to] of [
      ['SIGINT', 'group'],
      ['SIGTERM', 'runner'],
    ] as const) {
      const script = `trap 'echo got it; exit 9' ${signal.slice(3)}; echo up; while :; do sleep 0.05; done`;
      const [program, ...args] = [
        process.execPath,
        ...process.execArgv,
        cliPath(),
        'run',
        'bash',
        '-c',
        script,
      ];
      const child = spawn(program, args, { detached: true, stdio: ['ignore', 'pipe', 'inherit'] });
      let text = '';
      child.stdout.setEncoding('utf8').on('data', (more: string) => (text += more));
      await once(child.stdout, 'data');
      process.kill(to === 'group' ? -child.pid! : child.pid!, signal);
      t.same(await once(child, 'exit'), [9, null], signal);
      t.equal(text, 'up\ngot it\n');
    }
  });

  await t.test('ports: of the host in there, and of the command out here', async (t) => {
    await startWorld(t);
    const script = `${get(`127.0.0.1:81`)} && ${get(`localhost:${PORT}`)}`;
    const ports = ['--host-port', `81:${PORT}`, '--host-port', String(PORT), '--publish', '9998'];
    t.match(await run(t, [...ports, 'sh', '-c', script]), { status: 0 });
  });

  await t.test(
    'kill -9 of the runner: its connections end, and nothing else is left to be reached',
    async (t) => {
      await startWorld(t);
      const script = `exec 3<>/dev/tcp/${WEB.v4}/${PORT + 1}; echo up; read -r <&3; ${get(`${WEB.v4}:${PORT}`)} 2>/dev/null; echo over $?`;
      const child = spawn(process.execPath, [...process.execArgv, cliPath(), 'run', 'bash', '-c', script], {
        stdio: ['ignore', 'pipe', 'inherit'],
      });
      let text = '';
      child.stdout.setEncoding('utf8').on('data', (more: string) => (text += more));
      await once(child.stdout, 'data');
      child.kill('SIGKILL');
      await once(child.stdout, 'end');
      t.equal(text, 'up\nover 7\n');
    },
  );
});

function cliPath(): string {
  return new URL('../../lib/cli.js', import.meta.url).pathname;
}
