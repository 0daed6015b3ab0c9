// Network namespaces as values, made without any right.
import { once } from 'node:events';
import { closeSync, openSync, readdirSync, readFileSync, readlinkSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { pathToFileURL } from 'node:url';
import { Worker } from 'node:worker_threads';
import t from 'tap';
import { Namespace } from '../../lib/index.ts';
import { startProgram } from '../fixtures/program.ts';
import { withoutRights } from '../fixtures/rootless.ts';

const here = (): string => readlinkSync('/proc/thread-self/ns/net');
const nameOf = (namespace: Namespace): string => readlinkSync(`/proc/self/fd/${namespace.fd}`);
const program = (name: string): string =>
  new URL(`../fixtures/programs/${name}.js`, import.meta.url).pathname;

/** Which processes are in that namespace, or hold it. */
function holders(name: string): string[] {
  return readdirSync('/proc')
    .filter((pid) => /^\d+$/.test(pid))
    .filter((pid) => {
      try {
        const held = readdirSync(`/proc/${pid}/fd`).map((fd) => readlinkSync(`/proc/${pid}/fd/${fd}`));
        return [readlinkSync(`/proc/${pid}/ns/net`), ...held].includes(name);
      } catch {
        return false; // another user's, or over by now
      }
    });
}

async function output(namespace: Namespace, script: string, options: object = {}): Promise<string> {
  const child = namespace.spawn('sh', ['-c', script], { stdio: ['ignore', 'pipe', 'inherit'], ...options });
  let text = '';
  child.stdout!.setEncoding('utf8').on('data', (more: string) => (text += more));
  await once(child, 'close');
  return text;
}

await withoutRights(t, import.meta.url, async () => {
  await t.test('one without IPv6', async (t) => {
    const families = async (options?: object): Promise<boolean[]> => {
      const namespace = await Namespace.create(options);
      t.teardown(() => namespace.close());
      const { stdout } = await namespace.run(['ip', '-o', 'addr']);
      return [stdout.includes('127.0.0.1/8'), stdout.includes('::1/128')];
    };
    t.same(await families({ families: ['IPv4'] }), [true, false]);
    for (const options of [undefined, {}, { families: ['IPv6', 'IPv4'] }])
      t.same(await families(options), [true, true]);
    const only = await Namespace.create({ families: ['IPv4'] });
    t.teardown(() => only.close());
    const later = 'ip link add d0 type veth peer name d1; ip link set d1 up; ip -6 -o addr';
    const { stdout } = await only.run(['sh', '-c', later]);
    t.equal(stdout, '', 'nor do interfaces get it that come later');
    await t.rejects(Namespace.create({ families: ['IPv6'] }), { code: 'ERR_OUT_OF_RANGE' });
    await t.rejects(Namespace.create({ families: [] }), { code: 'ERR_INVALID_ARG_TYPE' });
    await t.rejects(Namespace.create({ families: ['ipv4'] as never }), { code: 'ERR_OUT_OF_RANGE' });
    await t.rejects(Namespace.create({ family: 4 } as never), { code: 'ERR_INVALID_ARG_VALUE' });
  });

  await t.test(
    'a new one is empty, its loopback interface is up, and no thread of this process is in it',
    async (t) => {
      const before = here();
      const namespace = await Namespace.create();
      t.teardown(() => namespace.close());
      t.not(nameOf(namespace), before);
      const { stdout } = await namespace.run(['ip', '-o', 'addr']);
      t.match(stdout, /127\.0\.0\.1/);
      t.same(
        new Set(
          stdout
            .split('\n')
            .filter(Boolean)
            .map((line) => line.split(/\s+/)[1]),
        ),
        new Set(['lo']),
      );
      const threads = readdirSync('/proc/self/task').map((task) =>
        readlinkSync(`/proc/self/task/${task}/ns/net`),
      );
      t.same(new Set(threads), new Set([before]));
    },
  );

  await t.test('its root has every right over it, who is spawned in it has none', async (t) => {
    await using namespace = await Namespace.create();
    const link = ['ip', 'link', 'add', 'dummy0', 'type', 'veth'] as const;
    t.same((await namespace.run(['id', '-u'])).stdout, '0\n');
    t.equal((await namespace.run(link)).status, 0);
    t.match((await namespace.run(['nft', '-f', '-'], { input: 'nonsense' })).stderr, /syntax error/);
    t.equal(await output(namespace, 'id -u'), `${process.getuid!()}\n`);
    t.equal(await output(namespace, 'ip link del dummy0 2>/dev/null; echo $?'), '2\n');
    t.equal(await output(namespace, 'ip link del dummy0; echo $?', { root: true }), '0\n');
  });

  await t.test('spawn() is child_process.spawn', async (t) => {
    await using namespace = await Namespace.create();
    const name = nameOf(namespace);
    t.equal(await output(namespace, 'readlink /proc/self/ns/net'), `${name}\n`);
    t.equal(await output(namespace, 'echo $MINE', { env: { ...process.env, MINE: 'yes' } }), 'yes\n');
    t.equal(await output(namespace, 'pwd', { cwd: tmpdir() }), `${tmpdir()}\n`);
    t.same(
      (await output(namespace, 'ls -l /proc/self/fd')).match(/net:|user:/),
      null,
      'descriptors are close-on-exec',
    );

    const exit = namespace.spawn('sh', ['-c', 'exit 7']);
    t.same(await once(exit, 'exit'), [7, null]);
    const killed = namespace.spawn('sh', ['-c', 'echo $$; exec sleep 60']);
    const [pid] = (await once(killed.stdout, 'data')) as [Buffer];
    t.equal(Number(String(pid)), killed.pid, 'the child is the command itself');
    killed.kill('SIGINT');
    t.same(await once(killed, 'exit'), [null, 'SIGINT']);

    const aborting = new AbortController();
    const aborted = namespace.spawn('sleep', ['60'], { signal: aborting.signal });
    const ended = once(aborted, 'error');
    aborting.abort();
    t.match(await ended, [{ name: 'AbortError' }]);
    const tool = namespace.run(['sleep', '60'], { signal: AbortSignal.timeout(20) });
    await t.rejects(tool, { name: 'AbortError' });
  });

  await t.test('a command that is not there runs nowhere', async (t) => {
    await using namespace = await Namespace.create();
    const options = [
      {},
      { cwd: '/' },
      { cwd: pathToFileURL('/') },
      { env: { PATH: ':.:/nowhere' } },
      { env: {} },
    ];
    for (const name of ['no-such-command', './no-such-command', '/no/such/command']) {
      for (const option of options) {
        const [error] = (await once(namespace.spawn(name, ['x'], option), 'error')) as [Error];
        t.match(error, {
          code: 'ENOENT',
          path: name,
          syscall: `spawn ${name}`,
          message: `spawn ${name} ENOENT`,
        });
      }
    }
  });

  await t.test('of(): a process, a path, and what is neither', async (t) => {
    await using namespace = await Namespace.create();
    const child = namespace.spawn('cat');
    await once(child, 'spawn');
    const name = nameOf(namespace);
    while (readlinkSync(`/proc/${child.pid!}/ns/net`) !== name) await new Promise(setImmediate);
    const found = Namespace.of(child.pid!);
    t.equal(nameOf(found), name);
    t.equal(await output(found, 'readlink /proc/self/ns/net'), `${name}\n`);
    found.close();
    child.stdin.end();
    await once(child, 'exit');
    const byPath = Namespace.of(`/proc/self/fd/${namespace.fd}`);
    t.equal(nameOf(byPath), name);
    byPath.close();

    const open = readdirSync('/proc/self/fd').length;
    t.throws(() => Namespace.of('/nowhere'), { code: 'ENOENT', syscall: 'open', address: '/nowhere' });
    t.throws(() => Namespace.of('/proc/self/status'), {
      code: 'ENOTTY',
      syscall: 'ioctl',
      hint: /no network/,
    });
    t.throws(() => Namespace.of('/proc/self/ns/mnt'), { code: 'EINVAL', syscall: 'ioctl' });
    t.throws(() => Namespace.of(1), { code: 'EACCES', syscall: 'open', hint: /another user’s/ });
    for (const wrong of [0, -1, 1.5, 2 ** 30])
      t.throws(() => Namespace.of(wrong), { code: 'ERR_OUT_OF_RANGE' });
    for (const wrong of [undefined, '', '\0'])
      t.throws(() => Namespace.of(wrong as never), { code: 'ERR_INVALID_ARG_TYPE' });
    t.equal(readdirSync('/proc/self/fd').length, open, 'nothing is left open');
  });

  await t.test('current() is the calling thread’s, whichever that is', async (t) => {
    const current = Namespace.current();
    t.equal(nameOf(current), here());
    t.equal(await output(current, 'readlink /proc/self/ns/net'), `${here()}\n`);
    current.close();
    const worker = new Worker(program('namespace-worker'));
    const [{ current: inWorker, made, inside }] = (await once(worker, 'message')) as [Record<string, string>];
    await once(worker, 'exit');
    t.equal(inWorker, here());
    t.not(made, here());
    t.equal(inside, made);
  });

  await t.test('close() closes once, and afterwards there is nothing to be done with it', async (t) => {
    const namespace = await Namespace.create();
    const { fd } = namespace;
    namespace.close();
    const others = [openSync('/dev/null', 'r'), openSync('/dev/null', 'r')];
    t.ok(others.includes(fd), 'the numbers are free');
    namespace.close();
    for (const other of others) {
      t.ok(statSync(`/proc/self/fd/${other}`).isCharacterDevice(), 'and their next owner keeps them');
      closeSync(other);
    }
    t.throws(() => namespace.fd, { code: 'ERR_NAMESPACE_CLOSED' });
    t.throws(() => namespace.spawn('true'), { code: 'ERR_NAMESPACE_CLOSED' });
    await t.rejects(namespace.run(['true']), { code: 'ERR_NAMESPACE_CLOSED' });
  });

  await t.test('nothing is left of it when the program is killed', async (t) => {
    const { child, printed } = await startProgram(t, process.execPath, [program('namespace-holder')], /\n/);
    const [name] = await printed(/net:\[\d+\]/);
    t.ok(holders(name).length > 0);
    child.kill('SIGKILL');
    await once(child, 'exit');
    for (let i = 0; i < 500 && holders(name).length > 0; i++)
      await new Promise((done) => setTimeout(done, 10));
    t.same(holders(name), []);
  });

  await t.test('no right is taken along: capabilities are as before', async (t) => {
    const rights = (): string[] => readFileSync('/proc/self/status', 'utf8').match(/^(Cap|Uid|Gid).*$/gm)!;
    const before = rights();
    await using namespace = await Namespace.create();
    await namespace.run(['true']);
    t.same(rights(), before);
    t.doesNotThrow(() => readdirSync('/proc/self/fd'), 'and the process is as dumpable as before');
  });
});
