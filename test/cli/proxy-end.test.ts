// `original-dst proxy --with-rules` removes its rules, whatever ends it.
import { once } from 'node:events';
import { existsSync, readFileSync } from 'node:fs';
import { connect } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { underNohup } from '../../lib/cli/ending.ts';
import { RunningCli } from '../fixtures/cli.ts';
import { curl, end, running, setUp, slowDownload } from '../fixtures/far-network.ts';
import { inNamespace, sh } from '../fixtures/netns.ts';
import { traces } from '../fixtures/traces.ts';

const PROXY = ['proxy', '--listen', '0', '--with-rules'];

/** Goes wrong when told to. */
const FAULTS = `--import=data:text/javascript,${encodeURIComponent(`
  process.on('SIGUSR2', () => { throw new Error('thrown here') });
  process.on('SIGPWR', () => { void Promise.reject(new Error('rejected here')) });
`)}`;

/** The process at the terminal of script(1), which leads a process group. */
const atTerminal = ({ child }: RunningCli): number => Number(sh(`pgrep -P ${child.pid}`));

async function startAtTerminal(t: Test): Promise<[proxy: RunningCli, pid: number]> {
  const proxy = new RunningCli(t, PROXY, {}, []);
  await proxy.until('stdout', /listening on/);
  return [proxy, atTerminal(proxy)];
}

async function gone(pid: number): Promise<void> {
  for (const deadline = Date.now() + 60_000; existsSync(`/proc/${pid}`); await delay(20)) {
    if (Date.now() > deadline) throw new Error(`process ${pid} does not end`);
  }
}

t.test('what shows nohup', async (t) => {
  t.equal(underNohup('/usr/bin/nohup'), true);
  t.equal(underNohup('/usr/bin/node', '/nonexistent'), false);
  const proc = t.testdir({
    fdinfo: { 0: 'pos:\t0\nflags:\t0100001\n' },
    fd: { 0: t.fixture('symlink', '/dev/null') },
    file: { fdinfo: { 0: 'pos:\t0\nflags:\t0100001\n' }, fd: { 0: t.fixture('symlink', '/tmp/x') } },
    other: { fdinfo: { 0: 'pos:\t0\n' }, fd: { 0: t.fixture('symlink', '/dev/null') } },
  });
  t.equal(underNohup('', proc), true);
  t.equal(underNohup('', `${proc}/file`), false);
  t.equal(underNohup('', `${proc}/other`), false);
});

await inNamespace(t, import.meta.url, async () => {
  const web = await setUp();
  t.teardown(() => web.kill());
  const before = traces();

  t.test('nobody reads what it says any more', async (t) => {
    const proxy = await running(t, '--with-rules');
    proxy.child.stdout!.destroy();
    proxy.child.stderr!.destroy();
    t.equal(curl('http://198.51.100.7/'), '::ffff:10.1.0.1', 'it goes on');
    t.equal(await end(proxy, 'SIGTERM'), 0);
    t.equal(traces(), before);
  });

  t.test('somebody has stopped reading', async (t) => {
    const proxy = await running(t, '--with-rules', '--log', 'json');
    proxy.child.stdout!.pause();
    // What fits into the socket pair between the two, 208 KiB, is some 400 lines.
    const COUNT = 600;
    for (let i = 0; i < COUNT; i += 100) {
      const ends = Array.from({ length: 100 }, async () => {
        const socket = connect(80, '198.51.100.7').resume();
        await once(socket, 'connect');
        await once(socket.end(), 'close');
      });
      await Promise.all(ends);
    }
    proxy.child.kill('SIGTERM');
    t.same(await once(proxy.child, 'exit'), [0, null], 'it is not waited for');
    t.equal(traces(), before);
    proxy.child.stdout!.resume();
    await proxy.ended;
    const lines = proxy.stdout.split('\n').length - 1;
    t.ok(lines > 100 && lines < COUNT, `${lines} lines were read, the others never`);
  });

  for (const [signal, what, ending] of [
    ['SIGUSR2', 'thrown', false],
    ['SIGPWR', 'rejected', true],
  ] as const) {
    t.test(`a fault: ${what}${ending ? ' while it is ending' : ''}`, async (t) => {
      const env = { NODE_OPTIONS: `${process.env['NODE_OPTIONS'] ?? ''} ${FAULTS}` };
      const proxy = new RunningCli(t, [...PROXY, '--grace', '3600'], env);
      await proxy.until('stderr', /listening on/);
      const slow = await slowDownload(t);
      const cut = once(slow, 'exit');
      if (ending) {
        proxy.child.kill('SIGTERM');
        await proxy.until('stderr', /ending/);
      }
      t.equal(await end(proxy, signal), 1);
      t.match(proxy.stderr, new RegExp(`original-dst: Error: ${what} here\n +at `));
      t.match(proxy.stdout, /aborted\n$/);
      await cut;
      t.equal(traces(), before);
    });
  }

  t.test('SIGKILL', async (t) => {
    const proxy = await running(t, '--with-rules', '--mode', 'tproxy', '--backend', 'iptables');
    // Its standard error is closed when the last process that has it has ended.
    t.equal(await end(proxy, 'SIGKILL'), 'SIGKILL');
    t.match(proxy.stderr, /original-dst: the proxy was killed: its rules, proxy, are removed\n$/);
    t.equal(traces(), before);
  });

  t.test('SIGKILL, and another proxy that is faster than the cleaning up', async (t) => {
    const killed = await running(t, '--with-rules', '--ports', '80');
    const { pid } = killed.child;
    const guard = Number(readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8'));
    process.kill(guard, 'SIGSTOP');
    killed.child.kill('SIGKILL');
    await once(killed.child, 'exit');
    const next = await running(t, '--with-rules', '--ports', '80');
    const during = traces();
    process.kill(guard, 'SIGCONT');
    await killed.ended;
    t.notMatch(killed.stderr, /was killed/);
    t.equal(traces(), during, 'the rules are the next one’s');
    t.equal(await end(next, 'SIGINT'), 0);
    t.equal(traces(), before);
  });

  t.test('SIGKILL, and rules that cannot be removed', async (t) => {
    const proxy = await running(t, '--with-rules');
    sh('mount --bind /usr/bin/false /usr/sbin/nft');
    await end(proxy, 'SIGKILL');
    sh('umount /usr/sbin/nft');
    t.match(proxy.stderr, /was killed, and its rules, proxy, are still there: nft .*\n$/);
    sh('nft delete table ip original-dst-proxy; nft delete table ip6 original-dst-proxy');
    t.equal(traces(), before);
  });

  t.test('the terminal goes away', async (t) => {
    const [proxy, pid] = await startAtTerminal(t);
    proxy.child.kill('SIGKILL');
    await gone(pid);
    t.equal(traces(), before);
  });

  t.test('Ctrl-C held down', async (t) => {
    const [proxy, pid] = await startAtTerminal(t);
    // To the process group, as a terminal does.
    const key = setInterval(() => existsSync(`/proc/${pid}`) && process.kill(-pid, 'SIGINT'), 20);
    void proxy.ended.then(() => clearInterval(key));
    t.equal(await proxy.ended, 0);
    t.equal(traces(), before);
  });

  t.test('one Ctrl-C that comes twice, as by way of npx, is one', async (t) => {
    const proxy = await running(t, '--with-rules', '--grace', '3600');
    const slow = await slowDownload(t);
    proxy.child.kill('SIGINT');
    await proxy.until('stderr', /ending/);
    proxy.child.kill('SIGINT');
    await delay(700);
    t.equal(slow.exitCode, null, 'the download goes on');
    t.equal(await end(proxy, 'SIGINT'), 0, 'another one ends it');
    t.equal(traces(), before);
  });

  t.test('nohup', async (t) => {
    // It writes to the file nohup.out where it is started.
    const proxy = new RunningCli(t, PROXY, {}, ['env', '-C', '/run', 'nohup']);
    const said = '/run/nohup.out';
    while (!existsSync(said) || !readFileSync(said, 'utf8').includes('listening on')) await delay(20);
    const pid = atTerminal(proxy);
    process.kill(pid, 'SIGHUP');
    await delay(500);
    t.equal(curl('http://198.51.100.7/'), '::ffff:10.1.0.1', 'it goes on');
    process.kill(pid, 'SIGTERM');
    t.equal(await proxy.ended, 0);
    t.equal(traces(), before);
  });
});
