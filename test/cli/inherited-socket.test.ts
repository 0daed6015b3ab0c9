// A proxy whose socket was opened by somebody else, as systemd's socket units do.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import t, { type Test } from 'tap';
import { inheritedSocket } from '../../lib/cli/inherited-socket.ts';
import { RunningCli } from '../fixtures/cli.ts';
import { curl, setUp } from '../fixtures/far-network.ts';
import { inNamespace } from '../fixtures/netns.ts';
import { traces } from '../fixtures/traces.ts';

const CLI = fileURLToPath(new URL('../../lib/cli.js', import.meta.url));

/** Stands in for systemd: binds two sockets, says whose they are, becomes the program. */
const ACTIVATE = `
import os, socket, sys
for number, address in ((3, '127.0.0.1'), (4, sys.argv[1])):
    listener = socket.socket(socket.AF_INET6 if ':' in address else socket.AF_INET)
    listener.bind((address, 0))
    listener.listen(8)
    os.dup2(listener.detach(), number + 10)
for number in (3, 4):
    os.dup2(number + 10, number)
    os.close(number + 10)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS='2', LISTEN_FDNAMES='other:' + sys.argv[2])
os.execv(sys.argv[3], sys.argv[3:])
`;

/** Runs until it has ended, or has said what `until` asks for. */
async function activated(t: Test, address: string, name: string, ...args: string[]) {
  const line = [process.execPath, CLI, 'proxy', '--with-rules', '--log', 'none', ...args];
  const child = spawn('python3', ['-c', ACTIVATE, address, name, ...line], {
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  t.teardown(() => child.kill('SIGKILL'));
  let said = '';
  const ended = once(child, 'close') as Promise<[number | null]>;
  await new Promise<void>((resolve) => {
    child.stderr.on('data', (data) => {
      said += String(data);
      if (said.includes('listening on')) resolve();
    });
    void ended.then(() => resolve());
  });
  return { child, ended, said: () => said };
}

await inNamespace(t, import.meta.url, async () => {
  const web = await setUp();
  t.teardown(() => web.kill());

  for (const more of [[], ['--no-relay']]) {
    t.test(`the one of that name serves ${more.join(' ')}`, async (t) => {
      const before = traces();
      const { child, ended, said } = await activated(t, '::', 'proxy', ...more);
      t.match(said(), /^listening on \[::\]:\d+ \(redirect, rules installed\)/);
      t.equal(curl('http://198.51.100.7/'), '::ffff:10.1.0.1');
      child.kill('SIGTERM');
      t.same((await ended)[0], 0);
      t.equal(traces(), before, 'nothing is left');
    });
  }

  t.test('one that the rules would lead past', async (t) => {
    const { ended, said } = await activated(t, '127.0.0.1', 'proxy', '--direction', 'gateway');
    t.equal((await ended)[0], 1);
    t.match(said(), /gateway connections come in at the first address/);
  });

  t.test('those of another process', async (t) => {
    const proxy = new RunningCli(t, ['proxy', '--listen', '0'], { LISTEN_PID: '1', LISTEN_FDS: '1' });
    await proxy.until('stderr', /the sockets of LISTEN_FDS are for process 1.*\n[^]*listening on \[::\]:/);
    proxy.child.kill('SIGTERM');
    t.equal(await proxy.ended, 0);
  });

  t.test('none of that name', async (t) => {
    const { ended, said } = await activated(t, '::', 'web');
    t.equal((await ended)[0], 1);
    t.match(said(), /2 sockets were passed, none of them by the name proxy \(set FileDescriptorName=proxy/);
  });
});

t.test('what the environment says', async (t) => {
  const read = (env: NodeJS.ProcessEnv) => inheritedSocket(env, 7);
  t.equal(read({}), undefined);
  t.equal(read({ LISTEN_PID: '7', LISTEN_FDS: '0' }), undefined);
  t.equal(read({ LISTEN_PID: '7', LISTEN_FDS: 'x' }), undefined);
  t.same(read({ LISTEN_PID: '7', LISTEN_FDS: '1' }), { fd: 3 }, 'the only one needs no name');
  t.same(read({ LISTEN_PID: '7', LISTEN_FDS: '3', LISTEN_FDNAMES: 'a:b:proxy' }), { fd: 5 });
  t.throws(() => read({ LISTEN_PID: '7', LISTEN_FDS: '2' }), { code: 'ERR_LISTEN_FDS' });
  t.throws(() => read({ LISTEN_PID: '7', LISTEN_FDS: '2', LISTEN_FDNAMES: 'a:b:proxy' }), {
    code: 'ERR_LISTEN_FDS',
  });
  t.match(read({ LISTEN_PID: '8', LISTEN_FDS: '1' }), { unused: /are for process 8/ });
  const env = { LISTEN_PID: '7', LISTEN_FDS: '1', LISTEN_FDNAMES: 'a', HOME: '/' };
  read(env);
  t.same(env, { HOME: '/' }, 'not for the programs that this one starts');
});
