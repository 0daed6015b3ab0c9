// `original-dst run`: a connection that is accepted late, when its client has sent again what nobody took, goes where it
// was going.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createServer } from 'node:net';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { inCaptureWorld, startWorld, WEB } from '../fixtures/capture-world.ts';

const CLI = fileURLToPath(new URL('../../lib/cli.js', import.meta.url));
const SINK = 6000;

/**
 * Fills the relay's buffers, and waits until that has thrown a segment away: probes of the window are sent again and again.
 */
const CLIENT = `
import os, re, socket, subprocess, sys
runner = os.getppid()
print("up", flush=True)
sys.stdin.readline()
s = socket.create_connection(("${WEB.v4}", ${SINK}))
s.setblocking(False)
try:
  while True: s.send(bytes(1 << 16))
except BlockingIOError: pass
mine = ["ss", "-Htnm", f"dport = :{s.getsockname()[1]}"]
while not re.search(r",d[1-9]\\d*\\)", subprocess.run(mine, capture_output=True, text=True).stdout):
  if os.getppid() != runner: sys.exit()
print("repeated", flush=True)
s.setblocking(True)
try: print(s.recv(9).decode(), flush=True)
except OSError as error: print(error, flush=True)
`;

await inCaptureWorld(t, import.meta.url, async () => {
  await t.test('accepted late', async (t) => {
    await startWorld(t);
    const sink = createServer((socket) => {
      socket.on('error', () => {}).once('data', () => socket.end('taken'));
      socket.resume();
    }).listen(SINK);
    t.teardown(() => sink.close());
    const runner = spawn(process.execPath, [CLI, 'run', '-q', '--', 'python3', '-c', CLIENT], {
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    const ended = once(runner, 'exit');
    t.teardown(() => runner.kill('SIGKILL'));
    const said = createInterface(runner.stdout)[Symbol.asyncIterator]();
    const next = async (): Promise<unknown> => (await said.next()).value;
    t.equal(await next(), 'up');
    // All its threads: what the client begins now is accepted when it goes on.
    runner.kill('SIGSTOP');
    runner.stdin.write('go\n');
    t.equal(await next(), 'repeated');
    runner.kill('SIGCONT');
    t.equal(await next(), 'taken');
    await ended;
  });
});
