// Configurations that are refused: owners, ports of one's own, the way back of answers, localhost.
import t from 'tap';
import { inbound, matching, outbound, untyped } from '../fixtures/plan-configs.ts';
import { type Refused, testRefused } from '../fixtures/refused-plans.ts';

const refused: Refused[] = [
  [
    'own user is captured',
    matching({ uids: [1000, 1337] }),
    'ERR_RULES_CONTRADICTION',
    /include\[0\].uids: 1337 is in exempt.uids/,
  ],
  [
    'own user is excluded',
    outbound({ exclude: [{ ports: [22] }, { uids: [1337], ports: [80] }] }),
    'ERR_RULES_CONTRADICTION',
    /exclude\[1\].uids: 1337 is in exempt.uids/,
  ],
  [
    'users of other hosts',
    inbound({ include: untyped({ uids: [1] }) as object }),
    'ERR_RULES_OPTION',
    /'uids'/,
  ],
  ['no user', matching({ uids: [] }), 'ERR_RULES_CONTRADICTION', /uids is empty/],
  ['group twice', matching({ gids: [5, 5] }), 'ERR_RULES_OVERLAP', /outbound.include.gids/],
  ['proxy port', inbound({ include: { proxyPort: 0 } }), 'ERR_OUT_OF_RANGE', /include.proxyPort/],
  [
    'proxy port of what is excluded',
    inbound({ exclude: untyped({ proxyPort: 1 }) as object }),
    'ERR_RULES_OPTION',
    /exclude has no option 'proxyPort'/,
  ],
  [
    'a mark leads to one port',
    outbound({ mode: 'tproxy', include: [{ ports: [80], proxyPort: 15007 }, {}] }),
    'ERR_RULES_CONTRADICTION',
    /include\[0\].proxyPort: under tproxy one mark leads all/,
  ],
  [
    'narrower port behind a wider one',
    inbound({ include: [{}, { ports: [80], proxyPort: 15007 }] }),
    'ERR_RULES_OVERLAP',
    /inbound.include\[0\] holds all that include\[1\] names/,
  ],
  [
    'answers anyway',
    inbound({ mode: 'tproxy', preserveSource: false }),
    'ERR_RULES_CONTRADICTION',
    /inbound.preserveSource: under tproxy answers are always/,
  ],
  [
    'answers of a gateway anyway',
    { gateway: { mode: 'tproxy', port: 1, preserveSource: false } },
    'ERR_RULES_CONTRADICTION',
    /gateway.preserveSource/,
  ],
  [
    'answers of nothing',
    { gateway: { mode: 'redirect', port: 1, include: [], preserveSource: true }, dns: { port: 53 } },
    'ERR_RULES_CONTRADICTION',
    /so preserveSource has no effect/,
  ],
  [
    'preserveSource',
    inbound({ preserveSource: 1 as never }),
    'ERR_INVALID_ARG_TYPE',
    /inbound.preserveSource/,
  ],
  [
    'preserveSource null',
    inbound({ preserveSource: null as never }),
    'ERR_INVALID_ARG_TYPE',
    /preserveSource/,
  ],
  [
    'preserveSource option',
    inbound({ preserveSource: { mark: 7, port: 1 } as never }),
    'ERR_RULES_OPTION',
    /preserveSource has no option 'port'/,
  ],
  ['source mark 0', inbound({ preserveSource: { mark: 0 } }), 'ERR_OUT_OF_RANGE', /preserveSource.mark/],
  [
    'source mark is captured',
    inbound({ preserveSource: { mark: 9 } }, { mark: 8 }),
    'ERR_RULES_LOOP',
    /packets with mark 9 are captured.*8 to 10/,
  ],
  [
    'source mark is exempt and routed',
    inbound({ preserveSource: true }, outbound({}, { exempt: { marks: [1337] } })),
    'ERR_RULES_LOOP',
    /mark 1337 are routed/,
  ],
  [
    'every packet is exempt',
    outbound({}, { exempt: { uids: [1], marks: ['0/0xf0'] } }),
    'ERR_RULES_CONTRADICTION',
    /exempt.marks: a packet that nobody has marked/,
  ],
  [
    'localhost',
    inbound({ mode: 'tproxy' }, { localhost: '10.0.0.0/8' }),
    'ERR_RULES_CONTRADICTION',
    /10.0.0.0\/8/,
  ],
  [
    'localhost, not mine',
    inbound({ mode: 'tproxy' }, { localhost: '127.0.0.6' }),
    'ERR_RULES_CONTRADICTION',
    /6 is/,
  ],
  [
    'localhost, IPv6',
    inbound({ mode: 'tproxy' }, { localhost: '::1' }),
    'ERR_RULES_CONTRADICTION',
    /::1 is no part/,
  ],
  [
    'localhost of no IPv4 destination',
    inbound({ mode: 'tproxy', include: { destinations: ['2001:db8::/32'] } }, { localhost: '127.0.0.0/8' }),
    'ERR_RULES_CONTRADICTION',
    /nothing is asked/,
  ],
  [
    'the proxy’s own port, tproxy',
    inbound({ mode: 'tproxy', include: { ports: [15006] } }),
    'ERR_RULES_CONTRADICTION',
    /nothing of what it names/,
  ],
  [
    'localhost of no IPv4',
    inbound({ mode: 'tproxy', include: { sources: ['2001:db8::/32'] } }, { localhost: '127.0.0.0/8' }),
    'ERR_RULES_CONTRADICTION',
    /nothing is asked/,
  ],
  [
    'localhost of nothing',
    outbound({}, { localhost: '127.0.0.0/8' }),
    'ERR_RULES_CONTRADICTION',
    /nothing is asked/,
  ],
];

testRefused(t, refused);
