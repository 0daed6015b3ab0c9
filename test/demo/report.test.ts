// The text of the demo's report.
import t from 'tap';
import type { Visit } from '../../lib/demo/proxy.ts';
import { report } from '../../lib/demo/report.ts';
import { faultsOf, type Outcome, type Scenario, scenarios } from '../../lib/demo/scenarios.ts';
import type { Told } from '../../lib/demo/clients.ts';
import { painter, table } from '../../lib/demo/table.ts';

const all = scenarios();
const http = all.find(({ mode, traffic }) => mode === 'redirect' && traffic === 'curl HTTP')!;
const https = all.find(({ mode, traffic }) => mode === 'tproxy' && traffic === 'curl HTTPS')!;
const direct = all.find(({ mode }) => mode === 'direct')!;

const visit = (scenario: Scenario, changes: Partial<Visit> = {}): Visit => ({
  acceptedAt: scenario.acceptedAt,
  originalDst: { kind: scenario.mode, address: scenario.address, port: scenario.port, family: 'IPv4' },
  up: 75,
  down: 1234,
  ...changes,
});
const told = (scenario: Scenario, changes: Partial<Told> = {}): Told => ({
  greeting: { server: scenario.destination, client: scenario.seen! },
  up: 75,
  down: 1234,
  ...changes,
});

t.test('scenarios cover modes, families and kinds of traffic, each from a port of its own', (t) => {
  t.equal(all.length, 14);
  t.equal(new Set(all.map(({ localPort }) => localPort)).size, 14);
  t.match(http, {
    client: '192.0.2.2:40001',
    acceptedAt: '192.0.2.1:15001',
    destination: '198.51.100.10:80',
    seen: '198.51.100.1',
  });
  t.match(https, { acceptedAt: '203.0.113.20:443', destination: '203.0.113.20:443', seen: '192.0.2.2' });
  t.match(all.at(-1), {
    mode: 'direct',
    client: '[2001:db8::2]:40014',
    acceptedAt: '[2001:db8::1]:15001',
    destination: '[2001:db8::1]:15001',
    seen: undefined,
  });
  t.end();
});

t.test('every deviation is a fault', (t) => {
  t.same(faultsOf(http, { visit: visit(http), told: told(http) }), []);
  t.same(faultsOf(https, { visit: visit(https, { up: 700, down: 2000 }), told: told(https) }), []);
  t.same(faultsOf(direct, { visit: visit(direct), told: undefined, failure: 'reset' }), []);

  t.same(faultsOf(http, { visit: undefined, told: told(http) }), ['the connection did not reach the proxy']);
  t.same(faultsOf(http, { visit: visit(http), told: undefined, failure: 'curl: no route' }), [
    'the client failed: curl: no route',
  ]);
  t.same(faultsOf(direct, { visit: visit(direct), told: told(http) }), ['the proxy was to refuse this one']);
  const cause = new Error('getsockopt ENOENT');
  t.same(
    faultsOf(http, { visit: visit(http, { originalDst: { kind: 'unknown', cause } }), told: told(http) }),
    ['kind is unknown, expected redirect', 'getsockopt ENOENT'],
  );
  const elsewhere = { kind: 'redirect', address: '198.51.100.11', port: 80, family: 'IPv4' } as const;
  t.same(
    faultsOf(http, {
      visit: visit(http, { originalDst: elsewhere, acceptedAt: '192.0.2.1:1' }),
      told: told(http),
    }),
    [
      'true destination is 198.51.100.11:80, expected 198.51.100.10:80',
      'address of the accepted socket is 192.0.2.1:1, expected 192.0.2.1:15001',
    ],
  );
  const greeting = { server: '198.51.100.11:80', client: '192.0.2.3', sha256: 'aa' };
  t.same(faultsOf(http, { visit: visit(http), told: told(http, { greeting, sha256: 'bb' }) }), [
    'server that answered is 198.51.100.11:80, expected 198.51.100.10:80',
    'client as the server saw it is 192.0.2.3, expected 198.51.100.1',
    'digest of what the server got is aa, expected bb',
  ]);
  const counts = (up: number, down: number): string =>
    `the proxy counted ${up} ↑ ${down} ↓, the client 75 ↑ 1234 ↓`;
  t.same(faultsOf(http, { visit: visit(http, { up: 76 }), told: told(http) }), [counts(76, 1234)]);
  t.same(faultsOf(http, { visit: visit(http, { down: 1233 }), told: told(http) }), [counts(75, 1233)]);
  t.same(
    faultsOf(https, { visit: visit(https, { up: 700 }), told: told(https) }),
    [counts(700, 1234)],
    'TLS costs bytes',
  );
  t.same(faultsOf(https, { visit: visit(https, { down: 2000 }), told: told(https) }), [counts(75, 2000)]);
  t.end();
});

t.test('the report', (t) => {
  const right: Outcome = { scenario: http, visit: visit(http), told: told(http), faults: [] };
  const cause = new Error('getsockopt ENOENT');
  const lost = visit(https, { originalDst: { kind: 'unknown', cause } });
  const unknown: Outcome = {
    scenario: https,
    visit: lost,
    told: undefined,
    faults: ['a fault', 'and another'],
  };
  const absent: Outcome = { scenario: direct, visit: undefined, told: undefined, faults: ['not there'] };

  t.equal(
    report([right, unknown, absent], 1234, painter(false)),
    `
REDIRECT to :15001. NAT rewrites the destination, conntrack remembers it, the server sees the proxy.
   traffic     client           → proxy hit at      → true destination  kind      bytes ↑  bytes ↓  server saw
✓  curl HTTP   192.0.2.2:40001  → 192.0.2.1:15001   → 198.51.100.10:80  redirect       75    1 234  198.51.100.1

TPROXY to :15006. Nothing is rewritten, and the server sees the client’s own address.
   traffic     client           → proxy hit at      → true destination  kind      bytes ↑  bytes ↓  server saw
✗  curl HTTPS  192.0.2.2:40008  → 203.0.113.20:443  → ?                 unknown        75    1 234  -
     a fault
     and another

DIRECT. Nobody redirected it: the client dialled the proxy itself, which hangs up.
   traffic     client           → proxy hit at      → true destination  kind      bytes ↑  bytes ↓  server saw
✗  plain TCP   192.0.2.2:40013  → -                 → -                 -               -        -  -
     not there

1 of 3 connections as expected in 1.2 s`,
  );

  const mark = (colour: string, text: string): string => `<${colour}>${text}</>`;
  const marked = report([right, absent], 900, mark);
  t.match(marked, '<bold>REDIRECT');
  t.match(marked, '<green>✓</>  curl HTTP ');
  t.match(marked, '<red>✗</>  plain TCP ');
  t.match(marked, '<red>     not there</>');
  t.match(marked, '<red>1 of 2 connections as expected</> in 0.9 s');
  t.match(report([right], 900, mark), '<green>1 of 1 connections as expected</> in 0.9 s');
  t.end();
});

t.test('the table', (t) => {
  t.same(
    table(
      [{ title: 'name' }, { title: 'n', align: 'right' }],
      [
        ['a', '1'],
        ['longer', '23'],
      ],
    ),
    ['name     n', 'a        1', 'longer  23'],
  );
  t.equal(painter(false)('red', 'x'), 'x');
  t.equal(painter(true)('red', 'x'), '\u001b[31mx\u001b[39m');
  t.end();
});
