// `original-dst run --capture ebpf`: a command in a cgroup of its own.
import { readdirSync } from 'node:fs';
import t from 'tap';
import { cgroupMount } from '../../lib/ebpf/cgroup.ts';
import { inCaptureNamespace } from '../fixtures/captured.ts';
import { behind, cli, cliBatch, type CliResult } from '../fixtures/cli.ts';
import { relayNetwork } from '../fixtures/relay-network.ts';

const PYTHON = `
import errno, os, socket, sys, time
def say(*words): print(*words, flush=True)
def echo(address, port, words):
    s = socket.create_connection((address, port), 5); s.sendall(words); s.shutdown(socket.SHUT_WR)
    return s.recv(99).decode()
def tried(f, *args):
    try: return f(*args)
    except OSError as error: return errno.errorcode[error.errno]
def datagram(port):
    s = socket.socket(2, 2); s.settimeout(5); s.connect(('198.51.100.7', port)); s.send(b'q'); return s.recv(9)
`;

await inCaptureNamespace(t, import.meta.url, async (t) => {
  await relayNetwork(t);
  const run = (options: string[], code: string): CliResult =>
    cli(['run', '--capture', 'ebpf', ...options, '--', 'python3', '-c', `${PYTHON}${code}`]);
  const left = (): string[] =>
    readdirSync(cgroupMount(), { recursive: true, encoding: 'utf8' }).filter((name) =>
      /original-dst-run-\d+$/.test(name),
    );

  t.test('what it talks to, its exit status, and what it leaves behind', (t) => {
    const { status, stdout, stderr } = run(
      [],
      `
say(echo('198.51.100.7', 7002, b'hello'), echo('2001:db8::2', 7002, b'six'), tried(datagram, 443))
if os.fork() == 0:
    os.setsid(); time.sleep(60); say('still here')
sys.exit(7)`,
    );
    t.equal(stdout, 'hello six ECONNREFUSED\n');
    t.equal(status, 7);
    t.match(stderr, /198\.51\.100\.7:7002 +1 +5 B +5 B +passed/);
    t.match(stderr, /\[2001:db8::2\]:7002 +1 +3 B +3 B +passed/);
    t.same(left(), []);
    t.end();
  });

  t.test('denied', (t) => {
    const { status, stdout, stderr } = run(
      ['--allow', '2001:db8::/32', '--fail-on-denied'],
      `say(echo('2001:db8::2', 7002, b'six'), tried(echo, '198.51.100.7', 7002, b'hello'))`,
    );
    t.equal(stdout, 'six ECONNRESET\n');
    t.equal(status, 3);
    t.match(stderr, /198\.51\.100\.7:7002 +1 .*denied: /);
    t.end();
  });

  t.test('by another proxy; who is not captured', (t) => {
    const { status, stdout, stderr } = run(
      ['--via', 'socks5://192.0.2.99:1080', '--quiet'],
      `
def ports():
    rows = [row.split() for row in open('/proc/net/tcp6').readlines()[1:]]
    return [int(row[1].split(':')[1], 16) for row in rows if row[3] == '0A']
say(tried(echo, '198.51.100.7', 7002, b'hello'))
say([tried(echo, '127.0.0.1', port, b'direct') for port in ports() if port > 9999][-1])
os.kill(os.getpid(), 15)`,
    );
    t.match(stdout, /^E\w+\nECONNRESET\n$/);
    t.equal(status, 128 + 15);
    t.equal(stderr, '');
    t.end();
  });

  t.test('where it cannot be', (t) => {
    const [udp, publish] = cliBatch([
      'run --capture ebpf --udp relay -- true',
      'run --capture ebpf --publish 80 -- true',
    ]);
    t.match(udp, { status: 2, stderr: /leave --udp out/ });
    t.match(publish, { status: 2, stderr: /leave --host-port and --publish out/ });
    const nobody = ['setpriv', '--reuid=65534', '--regid=65534', '--clear-groups'];
    const { status, stderr } = behind(nobody, ['run', '--capture', 'ebpf', '--', 'true']);
    t.equal(status, 1);
    t.match(stderr, /original-dst-run-\d+ cannot be made: EACCES.*run as root/s);
    const noBpf = behind(
      ['setpriv', '--bounding-set=-bpf,-sys_admin'],
      ['run', '--capture', 'ebpf', '--', 'true'],
    );
    t.equal(noBpf.status, 1);
    t.match(noBpf.stderr, /EPERM.*needs CAP_BPF and CAP_NET_ADMIN/s);
    t.same(left(), []);
    t.end();
  });
});
