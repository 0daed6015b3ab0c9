// createCapture(): a segment that conntrack has no use for does not end the connection that it looks like a part of.
import { once } from 'node:events';
import t from 'tap';
import { inCaptureWorld, PORT, startWorld, WEB } from '../fixtures/capture-world.ts';
import { capture } from '../fixtures/shell-captured.ts';

/** Connects, says from which port, and waits. */
const CLIENT = `
import socket, sys
s = socket.create_connection((sys.argv[1], int(sys.argv[2])))
print(s.getsockname()[1], flush=True)
sys.stdin.read()
`;

/**
 * Sends the client a segment that is far beyond what the relay's end of its connection has said, as late ones under load
 * are: conntrack calls it invalid, and NAT leaves it alone. Prints how many resets that has led to.
 */
const FORGER = `
import socket, struct, sys
def fields(hexadecimal):
  address, port = hexadecimal.split(":")
  return bytes.fromhex(address[-8:])[::-1], int(port, 16) # of ::ffff:a.b.c.d
def resets():
  names, values = [l.split() for l in open("/proc/net/snmp") if l.startswith("Tcp:")]
  return int(values[names.index("OutRsts")])
client = int(sys.argv[1])
lines = [line.split() for line in open("/proc/net/tcp6")][1:]
[(source, target)] = [(fields(l[1]), fields(l[2])) for l in lines if l[3] == "01" and fields(l[2])[1] == client]
def checksum(data):
  total = sum(struct.unpack("!%dH" % (len(data) // 2), data))
  while total >> 16: total = (total & 0xffff) + (total >> 16)
  return ~total & 0xffff
def segment(sequence, check):
  return struct.pack("!HHIIBBHHH", source[1], target[1], sequence, 1, 5 << 4, 16, 100, check, 0)
pseudo = source[0] + target[0] + struct.pack("!BBH", 0, 6, 20)
s = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_TCP)
s.bind((socket.inet_ntoa(source[0]), 0))
before = resets()
for sequence in range(0, 1 << 32, 1 << 28):
  forged = segment(sequence, checksum(pseudo + segment(sequence, 0)))
  try: s.sendto(forged, (socket.inet_ntoa(target[0]), 0))
  except PermissionError: pass # dropped by a rule
print(resets() - before)
`;

await inCaptureWorld(t, import.meta.url, async () => {
  await startWorld(t);
  const inside = await capture(t);
  const relayed = once(inside, 'relay');
  const client = inside.spawn('python3', ['-c', CLIENT, WEB.v4, String(PORT)], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  t.teardown(() => client.kill('SIGKILL'));
  const [port] = (await once(client.stdout!, 'data')) as [Buffer];
  await relayed;
  const { stdout, stderr } = await inside.namespace.run(['python3', '-c', FORGER, String(port).trim()]);
  t.equal(stdout, '0\n', stderr);
});
