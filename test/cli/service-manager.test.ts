// sd_notify(3): what a service manager is told by the proxy, through a socket with a path and one with an abstract name.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { setTimeout as delay } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { binding } from '../../lib/binding.ts';
import { ServiceManager } from '../../lib/cli/service-manager.ts';

const CLI = fileURLToPath(new URL('../../lib/cli.js', import.meta.url));

/** Stands in for systemd: prints each datagram in a line, with spaces in place of its newlines. */
const LISTEN = `
import socket, sys
manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
manager.bind(sys.argv[1].replace('@', chr(0), 1) if sys.argv[1][0] == '@' else sys.argv[1])
print('bound', flush=True)
while True:
    print(manager.recv(4096).decode().replace(chr(10), ' '), flush=True)
`;

interface Manager {
  socket: string;
  /** All that it has been told, once there is a line that matches. */
  told: (line: RegExp) => Promise<string[]>;
}

async function manager(t: Test, socket: string): Promise<Manager> {
  const child: ChildProcess = spawn('python3', ['-c', LISTEN, socket], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  t.teardown(() => child.kill());
  let text = '';
  child.stdout!.on('data', (data) => (text += String(data)));
  const told = async (line: RegExp): Promise<string[]> => {
    for (let i = 0; i < 1000 && !line.test(text); i++) await delay(10);
    return text.split('\n').slice(1, -1);
  };
  await told(/bound/);
  return { socket, told };
}

t.test('the proxy, from start to end', async (t) => {
  const directory = mkdtempSync(join(tmpdir(), 'original-dst-'));
  t.teardown(() => rmSync(directory, { recursive: true }));
  const { socket, told } = await manager(t, join(directory, 'notify'));
  const child = spawn(process.execPath, [CLI, 'proxy', '--listen', '127.0.0.1:0', '--log', 'none'], {
    stdio: 'ignore',
    env: { ...process.env, NOTIFY_SOCKET: socket, WATCHDOG_USEC: '100000' },
  });
  const ended = once(child, 'exit');
  t.match((await told(/READY=1/))[0], /^READY=1 STATUS=listening on 127\.0\.0\.1:\d+ \(redirect\)$/);
  await told(/WATCHDOG=1/);
  child.kill('SIGTERM');
  const lines = await told(/STOPPING=1/);
  t.match(
    lines.find((line) => line.includes('STOPPING')),
    'STOPPING=1 STATUS=waiting for open connections EXTEND_TIMEOUT_USEC=15000000',
  );
  t.same((await ended)[0], 0);
});

t.test('an abstract name; not a word when the watchdog is another’s, or off', async (t) => {
  const { socket, told } = await manager(t, `@original-dst-${process.pid}`);
  const env = { NOTIFY_SOCKET: socket, WATCHDOG_USEC: '2000', WATCHDOG_PID: '1', OTHER: 'stays' };
  const others = new ServiceManager(env, process.pid);
  t.same(env, { OTHER: 'stays' }, 'who is started by this process is not meant');
  const off = new ServiceManager({ NOTIFY_SOCKET: socket, WATCHDOG_USEC: '0' }, process.pid);
  const nobody = new ServiceManager({ WATCHDOG_USEC: '2000' }, process.pid);
  await delay(20);
  nobody.ready('nobody hears it');
  others.ready('first');
  off.ready('second');
  t.same(await told(/second/), ['READY=1 STATUS=first', 'READY=1 STATUS=second']);
  const on = new ServiceManager({ NOTIFY_SOCKET: socket, WATCHDOG_USEC: '2000' }, process.pid);
  // Its timer keeps no process alive.
  const alive = setInterval(() => {}, 1000);
  await told(/WATCHDOG=1/);
  clearInterval(alive);
  for (const one of [others, off, nobody, on]) one.close();
});

t.test('a socket that cannot be', (t) => {
  const { notifyService } = binding();
  t.equal(notifyService('', 'x'), -22);
  t.equal(notifyService('x'.repeat(108), 'x'), -22);
  t.equal(notifyService('/nowhere/at/all', 'x'), -2);
  t.equal(notifyService(7 as never, 'x'), -22);
  t.end();
});
