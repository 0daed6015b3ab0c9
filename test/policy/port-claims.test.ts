// Ports are claimed where only the program’s own user can write.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createServer as createNetServer } from 'node:net';
import t from 'tap';
import { createServer } from '../../lib/index.ts';
import { loopRefusal } from '../../lib/policy/loop-guard.ts';
import { listening } from '../fixtures/connections.ts';
import { inNamespace } from '../fixtures/netns.ts';

/** Takes a shared lock (F_OFD_SETLK) on every byte of each file that can be opened, and says of which. */
const LOCKER = `
import fcntl, os, struct, sys
held = []
for path in sys.argv[1:]:
    try:
        fd = os.open(path, os.O_RDONLY)
        fcntl.fcntl(fd, 37, struct.pack('hhqqi4x', fcntl.F_RDLCK, 0, 0, 0, 0))
    except OSError:
        continue
    held.append(path)
print(' '.join(held), flush=True)
sys.stdin.read()
`;

await inNamespace(
  t,
  import.meta.url,
  () => {
    t.test('a local user cannot claim ports in the name of the program', async (t) => {
      const intercepting = await listening(t, createServer());
      const plain = await listening(t, createNetServer());
      const refused = (port: number): boolean => loopRefusal({ address: '127.0.0.1', port }) !== undefined;
      t.equal(refused(intercepting), true);
      t.equal(refused(plain), false);

      const ours = `/proc/${process.pid}`;
      const nobody = '--reuid=65534 --regid=65534 --clear-groups --bounding-set=-all'.split(' ');
      const files = [
        '/proc/self/ns/net',
        ours,
        ...['task', 'stat', 'fd', 'ns/net'].map((name) => `${ours}/${name}`),
      ];
      // Not whatever python3 this user has: another may not run it.
      const locker = spawn('setpriv', [...nobody, 'python3', '-c', LOCKER, ...files], {
        stdio: ['pipe', 'pipe', 'inherit'],
        env: { PATH: '/usr/sbin:/usr/bin:/sbin:/bin' },
      });
      const exited = once(locker, 'exit');
      t.teardown(async () => {
        locker.stdin.end();
        await exited;
      });
      let held = '';
      for await (const text of locker.stdout.setEncoding('utf8')) {
        held += text;
        if (held.endsWith('\n')) break;
      }
      t.equal(held.trim(), `/proc/self/ns/net ${ours} ${ours}/task ${ours}/stat`, 'all that it can lock');
      t.equal(refused(plain), false, 'a destination on this host may still be dialled');
      t.equal(refused(intercepting), true, 'and a loop is still refused');
    });
  },
  { root: true },
);
