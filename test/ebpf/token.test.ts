// A BPF token: a proxy in a user namespace that captures a cgroup by rights that were delegated to a bpffs of its own.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { release } from 'node:os';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { inCaptureNamespace, makeCgroup, startClient } from '../fixtures/captured.ts';

const PORT = 15001;
const PROGRAM = fileURLToPath(new URL('../fixtures/programs/capturing.js', import.meta.url));

/**
 * The child's namespace opens the bpffs, root outside says what is delegated, the child mounts it at /run/bpf and runs the
 * proxy there. fsopen 430, fsconfig 431, fsmount 432, move_mount 429: on all machine types.
 */
const DELEGATE = `
import ctypes, os, socket, subprocess, sys
libc = ctypes.CDLL(None, use_errno=True)
def call(*words):
    answer = libc.syscall(*words)
    if answer < 0: raise OSError(ctypes.get_errno(), str(words))
    return answer
def fd_of(s): return socket.recv_fds(s, 1, 1)[1][0]
outside, inside = socket.socketpair()
pid = os.fork()
if pid == 0:
    # CLONE_NEWUSER, CLONE_NEWNET, CLONE_NEWNS
    if libc.unshare(0x10000000 | 0x40000000 | 0x20000) != 0: raise OSError(ctypes.get_errno(), 'unshare')
    inside.send(b'1'); inside.recv(1)
    socket.send_fds(inside, [b'1'], [call(430, b'bpf', 0)])
    mount = fd_of(inside)
    os.makedirs('/run/bpf', exist_ok=True)
    call(429, mount, b'', -100, b'/run/bpf', 4)
    subprocess.run(['ip', 'link', 'set', 'lo', 'up'], check=True)
    print(os.getpid(), flush=True)
    os.execvp(sys.argv[1], sys.argv[1:])
outside.recv(1)
for file in 'uid_map', 'gid_map': open('/proc/%d/%s' % (pid, file), 'w').write('0 0 1')
outside.send(b'1')
fs = fd_of(outside)
for what in 'cmds', 'maps', 'progs', 'attachs': call(431, fs, 1, b'delegate_' + what.encode(), b'any', 0)
call(431, fs, 6, None, None, 0)
socket.send_fds(outside, [b'1'], [call(432, fs, 0, 0)])
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) != 0)
`;

await inCaptureNamespace(t, import.meta.url, async (t) => {
  const [major, minor] = release().split('.').map(Number) as [number, number];
  if (major < 6 || (major === 6 && minor < 9)) {
    t.pass('skipped', { skip: `Linux ${release()} has no BPF tokens` });
    return;
  }
  const cgroup = makeCgroup(t);
  // Pinned in the same bpffs; with UDP there are programs of each kind.
  const args = [String(PORT), cgroup, '/run/bpf/pin', 'tcp', 'udp'];
  const start = (token: string) => {
    const child = spawn(
      'python3',
      ['-c', DELEGATE, process.execPath, ...process.execArgv, PROGRAM, ...args],
      { env: { ...process.env, CAPTURE_TOKEN: token }, stdio: ['ignore', 'pipe', 'pipe'] },
    );
    return { child, lines: createInterface(child.stdout)[Symbol.asyncIterator]() };
  };

  const { child, lines } = start('/run/bpf');
  let errors = '';
  child.stderr.on('data', (chunk) => (errors += String(chunk)));
  const pid = Number((await lines.next()).value);
  t.teardown(async () => {
    const exited = once(child, 'exit');
    process.kill(pid, 'SIGKILL');
    await exited;
  });
  t.equal((await lines.next()).value, 'captured', errors);
  const client = startClient(t, { cgroup, wrapper: ['nsenter', `--net=/proc/${pid}/ns/net`] });
  for (const address of ['192.0.2.1', '2001:db8::1'])
    t.match(await client(`answer = ask(dial('${address}', 80))`), { kind: 'ebpf', address, port: 80 });

  const other = start('/run');
  let why = '';
  other.child.stderr.on('data', (chunk) => (why += String(chunk)));
  const [status] = (await once(other.child, 'close')) as [number];
  t.equal(status, 1);
  t.match(why, /BPF_TOKEN_CREATE bpffs EINVAL.*BPF tokens/s, 'of what is no bpffs there is none');
});
