// Ids of aliases given out on all CPUs at once, from a ring so small that each is soon another destination's: nobody is
// ever told a wrong one. `npm run test:ebpf-stress` makes a million connections.
import { cpus } from 'node:os';
import t from 'tap';
import { attachCapture } from '../../lib/ebpf/index.ts';
import { inCaptureNamespace, makeCgroup, startClient } from '../fixtures/captured.ts';
import { startTelling } from '../fixtures/capture-server.ts';

const PORT = 15001;
const CONNECTIONS = Number(process.env['ORIGINAL_DST_STRESS'] ?? 4000);
const CLIENTS = 2 * cpus().length;
const EACH = Math.ceil(CONNECTIONS / CLIENTS);
/** Far more than there are aliases, of both families; some of them often. */
const DIAL = `
import random
random.seed(SEED)
def destination():
    n = random.randrange(1200 if random.random() < 0.6 else 8)
    address = '2001:db8::1:%x' % n if n % 3 == 0 else '93.184.%d.%d' % (n // 250, n % 250 + 1)
    return address, 1000 + n
right = wrong = unknown = 0
batch = []
def check(one):
    global right, wrong, unknown
    s, (address, port) = one
    told = ask(s)
    if told['kind'] == 'unknown' and told['code'] == 'ERR_ALIAS_REUSED': unknown += 1
    elif told['kind'] == 'ebpf' and told['address'] == address and told['port'] == port: right += 1
    else:
        wrong += 1
        print(told, address, port, file=sys.stderr)
for i in range(${EACH}):
    to = destination()
    batch.append((dial(*to), to))
    if len(batch) > 8: check(batch.pop(0))
for one in batch: check(one)
answer = [right, wrong, unknown]
`;

await inCaptureNamespace(t, import.meta.url, async (t) => {
  const server = await startTelling(t, PORT);
  const cgroup = makeCgroup(t);
  await using capture = attachCapture({ cgroup, port: PORT, destinations: 256 });
  const clients = Array.from({ length: CLIENTS }, () => startClient(t, { cgroup }));
  const answers = (await Promise.all(
    clients.map((client, seed) => client(DIAL.replace('SEED', String(seed)))),
  )) as [number, number, number][];
  const [right, wrong, unknown] = [0, 1, 2].map((at) =>
    answers.reduce((sum, answer) => sum + answer[at]!, 0),
  ) as [number, number, number];
  const { aliases, lost } = capture.stats;
  t.comment(
    `${CONNECTIONS} connections: ${right} right, ${wrong} wrong, ${unknown} unknown; ${aliases} aliases`,
  );
  t.equal(wrong, 0);
  t.equal(right + unknown, EACH * CLIENTS);
  t.ok(right > unknown * 100, `${unknown} were not known any more`);
  t.ok(aliases > 256 * 3, `the ring went round ${Math.floor(aliases / 256)} times`);
  t.equal(lost, 0);
  t.equal(server.interceptStats.ebpf, right);
});
