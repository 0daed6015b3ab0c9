// Configurations that are refused: hairpins, exclusions, DNS and SSH sessions; and some that look like those.
import t from 'tap';
import { planRules, sidecar, type RulesConfig } from '../../lib/rules/index.ts';
import { inbound, matching, outbound, untyped } from '../fixtures/plan-configs.ts';
import { type Refused, testRefused } from '../fixtures/refused-plans.ts';

const SSH = '192.0.2.9 50123 192.0.2.1 22';

const refused: Refused[] = [
  [
    'hairpin loops',
    inbound({}, outbound({ hairpin: {} }, { exempt: { uids: [1337], sources: ['127.0.0.6'] } })),
    'ERR_RULES_LOOP',
    /IPv6 connections to programs of this host would come back/,
  ],
  [
    'hairpin of nobody',
    inbound({}, outbound({ hairpin: {} }, { exempt: { marks: [7], sources: ['127.0.0.6', '::6'] } })),
    'ERR_RULES_CONTRADICTION',
    /nothing tells.*exempt.uids/,
  ],
  [
    'hairpin without group',
    inbound(
      { mode: 'tproxy' },
      outbound({ hairpin: {} }, { exempt: { uids: [7], sources: ['127.0.0.6', '::6'] } }),
    ),
    'ERR_RULES_CONTRADICTION',
    /nothing tells.*exempt.gids/,
  ],
  [
    'hairpin to no port',
    outbound(
      { hairpin: { port: 15006, exceptPorts: ['1-52', '54-65535'] } },
      { dns: { port: 15053 }, exempt: { uids: [7], sources: ['127.0.0.6', '::6'] } },
    ),
    'ERR_RULES_CONTRADICTION',
    /exceptPorts leaves no port/,
  ],
  [
    'hairpin port of nobody',
    inbound(
      { mode: 'tproxy' },
      outbound({ hairpin: { port: 15008 } }, { exempt: { gids: [7], sources: ['127.0.0.6', '::6'] } }),
    ),
    'ERR_RULES_CONTRADICTION',
    /hairpin.port: under inbound tproxy it is for calls of exempt.uids/,
  ],
  ['hairpin port 0', outbound({ hairpin: { port: 0 } }), 'ERR_OUT_OF_RANGE', /outbound.hairpin.port/],
  [
    'hairpin of nobody, without inbound',
    outbound({ hairpin: { port: 1 } }, { exempt: { marks: [7] } }),
    'ERR_RULES_CONTRADICTION',
    /nothing tells.*exempt.uids/,
  ],
  [
    'hairpin option',
    inbound({}, outbound({ hairpin: untyped({ ports: [] }) as object })),
    'ERR_RULES_OPTION',
    /outbound.hairpin has no option 'ports'/,
  ],

  ['include nothing', outbound({ include: [] }), 'ERR_RULES_CONTRADICTION', /outbound.include is empty/],
  [
    'inbound nothing',
    inbound({ include: [] }, outbound({}, { dns: { port: 53 } })),
    'ERR_RULES_CONTRADICTION',
    /inbound.include is empty/,
  ],
  [
    'all excluded',
    outbound({ include: { ports: [80, 443] }, exclude: { ports: ['1-1000'] } }),
    'ERR_RULES_CONTRADICTION',
    /all that include\[0\] names is excluded/,
  ],
  [
    'all excluded, by several',
    outbound({ include: { ports: [80, 443] }, exclude: [{ ports: [80] }, { ports: ['440-450'] }] }),
    'ERR_RULES_CONTRADICTION',
    /all that include\[0\] names is excluded/,
  ],
  [
    'all excluded, in pieces',
    outbound({
      include: { ports: [80], destinations: ['10.0.0.0/8'], uids: [5, 6] },
      exclude: [
        { destinations: ['10.0.0.0/9'] },
        { destinations: ['10.128.0.0/10'], ports: ['80-90'] },
        { destinations: ['10.192.0.0/10'], uids: [5] },
        { uids: [6, 7] },
      ],
    }),
    'ERR_RULES_CONTRADICTION',
    /all that include\[0\] names is excluded/,
  ],
  [
    'interfaces excluded one by one',
    inbound({
      include: { interfaces: ['eth0', 'wlan*'] },
      exclude: [{ interfaces: ['eth*'] }, { interfaces: ['wl*'] }],
    }),
    'ERR_RULES_CONTRADICTION',
    /all that include\[0\] names is excluded/,
  ],
  [
    'all but loopback excluded',
    outbound({
      include: { destinations: ['127.0.0.0/8', '10.0.0.0/8'], interfaces: ['eth0'] },
      exclude: { destinations: ['10.0.0.0/8'] },
      loopback: 'capture',
    }),
    'ERR_RULES_CONTRADICTION',
    /include\[0\]: nothing of what it names would be captured/,
  ],
  [
    'all but the proxy’s own sources excluded',
    outbound(
      {
        include: { interfaces: ['lo'] },
        exclude: {
          sources: [
            '128.0.0.0/1',
            '0.0.0.0/2',
            '64.0.0.0/3',
            '96.0.0.0/4',
            '112.0.0.0/5',
            '120.0.0.0/6',
            '124.0.0.0/7',
            '126.0.0.0/8',
          ],
        },
        loopback: 'capture',
      },
      { families: ['IPv4'], exempt: { uids: [1], sources: ['127.0.0.0/8'] } },
    ),
    'ERR_RULES_CONTRADICTION',
    /include\[0\]: nothing of what it names would be captured/,
  ],
  [
    'the proxy’s own port',
    inbound({ include: { ports: [15006] } }),
    'ERR_RULES_CONTRADICTION',
    /include\[0\]: nothing of what it names would be captured/,
  ],
  [
    'multicast sources',
    { gateway: { mode: 'redirect', port: 1, include: { sources: ['224.0.0.0/4', 'ff00::/8'] } } },
    'ERR_RULES_CONTRADICTION',
    /include\[0\]: nothing of what it names would be captured/,
  ],
  [
    'interfaces excluded',
    inbound({ include: { interfaces: ['eth0', 'eth1'] }, exclude: { interfaces: ['eth*'] } }),
    'ERR_RULES_CONTRADICTION',
    /include\[0\]/,
  ],
  [
    'include superfluous',
    outbound({ include: [{ ports: [80] }, { ports: [80], destinations: ['10.0.0.0/8'] }] }),
    'ERR_RULES_OVERLAP',
    /outbound.include\[0\] holds all that include\[1\] names/,
  ],
  [
    'exclude twice',
    inbound({ exclude: [{ sources: ['10.0.0.0/8'] }, { sources: ['10.0.0.0/8'] }] }),
    'ERR_RULES_OVERLAP',
    /inbound.exclude\[1\] holds/,
  ],

  ['dns alone', { dns: { port: 53 } }, 'ERR_RULES_EMPTY', /no direction/],
  [
    'dns inbound',
    inbound({}, { dns: { port: 53 } }),
    'ERR_RULES_CONTRADICTION',
    /only the outbound and the gateway/,
  ],
  [
    'dns port',
    outbound({}, { dns: { port: 15001 } }),
    'ERR_RULES_OVERLAP',
    /dns.port and outbound.port are the same/,
  ],
  [
    'dns port of inbound',
    inbound({}, outbound({}, { dns: { port: 15006 } })),
    'ERR_RULES_OVERLAP',
    /dns.port and inbound.port are the same/,
  ],
  [
    'dns included',
    outbound({ include: { ports: [53] } }, { dns: { port: 53 } }),
    'ERR_RULES_OVERLAP',
    /names port 53/,
  ],
  [
    'dns excluded',
    outbound({ exclude: { ports: ['50-60'] } }, { dns: { port: 53 } }),
    'ERR_RULES_CONTRADICTION',
    /outbound.exclude names port 53/,
  ],
  [
    'everything excluded but dns',
    outbound({ include: [], exclude: {} }, { dns: { port: 53 } }),
    'ERR_RULES_CONTRADICTION',
    /outbound.exclude names port 53/,
  ],
  [
    'some DNS excluded',
    outbound({ exclude: { ports: [53], destinations: ['192.0.2.1'] } }, { dns: { port: 15053 } }),
    'ERR_RULES_CONTRADICTION',
    /outbound.exclude\[0\] names queries, which dns captures.*dns.servers/,
  ],
  [
    'dns port of an entry',
    inbound({ include: { proxyPort: 15053 } }, outbound({}, { dns: { port: 15053 } })),
    'ERR_RULES_OVERLAP',
    /dns.port and inbound.include\[0\].proxyPort are the same/,
  ],
  [
    'dns port of the hairpin',
    outbound({ hairpin: { port: 15053 } }, { dns: { port: 15053 } }),
    'ERR_RULES_OVERLAP',
    /dns.port and outbound.hairpin.port are the same/,
  ],
  [
    'dns of nobody',
    outbound({}, { dns: { port: 15053, servers: ['224.0.0.251'] } }),
    'ERR_RULES_CONTRADICTION',
    /dns.servers: 224.0.0.251 is multicast/,
  ],
  [
    'dns of this host for others',
    { gateway: { mode: 'redirect', port: 1 }, dns: { port: 15053, servers: ['127.0.0.53'] } },
    'ERR_RULES_CONTRADICTION',
    /dns.servers: no packet of another host has 127.0.0.53/,
  ],
  [
    'dns of a family without clients',
    {
      gateway: { mode: 'redirect', port: 1, include: { sources: ['10.0.0.0/8'] } },
      dns: { port: 53, servers: ['2001:db8::1'] },
    },
    'ERR_RULES_CONTRADICTION',
    /dns.servers names IPv6 addresses/,
  ],
  [
    'dns option',
    outbound({}, { dns: untyped({ port: 53, server: 1 }) as { port: 53 } }),
    'ERR_RULES_OPTION',
    /'server'/,
  ],

  [
    'ssh',
    inbound({}, { sshConnection: SSH }),
    'ERR_RULES_SSH',
    /from 192.0.2.9 to 192.0.2.1 port 22.*ports: \[22\]/,
  ],
  [
    'ssh, other interfaces excluded',
    inbound({ exclude: { interfaces: ['eth0'] } }, { sshConnection: SSH }),
    'ERR_RULES_SSH',
    /would capture SSH/,
  ],
  [
    'ssh, by interface',
    inbound({ include: { interfaces: ['eth0'] } }, { sshConnection: SSH }),
    'ERR_RULES_SSH',
    /would capture SSH/,
  ],
  [
    'ssh over a link-local address',
    inbound({ exclude: { ports: [23] } }, { sshConnection: 'fe80::2%eth0 50123 fe80::1%eth0 22' }),
    'ERR_RULES_SSH',
    /fe80::2%eth0/,
  ],
  [
    'ssh garbage',
    inbound({}, { sshConnection: 'a b' }),
    'ERR_RULES_OPTION',
    /not what SSH_CONNECTION looks like/,
  ],
  [
    'ssh no port',
    inbound({}, { sshConnection: '::1 1 ::1 x' }),
    'ERR_RULES_OPTION',
    /not what SSH_CONNECTION/,
  ],
];

testRefused(t, refused);

const accepted: [string, RulesConfig][] = [
  ['ssh is excluded by port', inbound({ exclude: { ports: [22] } }, { sshConnection: SSH })],
  ['ssh is excluded by address', inbound({ exclude: { sources: ['192.0.2.0/24'] } }, { sshConnection: SSH })],
  ['ssh is not included', inbound({ include: { ports: [80] } }, { sshConnection: SSH })],
  [
    'ssh goes to another address',
    inbound({ include: { destinations: ['192.0.2.2'] } }, { sshConnection: SSH }),
  ],
  ['ssh is of another family', inbound({}, { families: ['IPv6'], sshConnection: SSH })],
  ['ssh is no UDP', inbound({ protocols: ['udp'] }, { sshConnection: SSH })],
  ['ssh is none', inbound({}, { sshConnection: '' })],
  ['ssh is not concerned', outbound({}, { sshConnection: SSH })],
  ['own mark, but nothing is routed by it', outbound({}, { exempt: { marks: [1337] } })],
  ['DNS within a range', outbound({ include: { ports: ['1-100'] } }, { dns: { port: 15053 } })],
  [
    'loopback, captured',
    outbound({ loopback: 'capture', include: { destinations: ['127.0.0.53'], interfaces: ['lo'] } }),
  ],
  [
    'and by whatever it goes out',
    outbound({ loopback: 'capture', include: { destinations: ['127.0.0.53'] } }),
  ],
  [
    'the proxy’s own calls, captured by interface',
    inbound(
      { mode: 'tproxy', include: { interfaces: ['lo'] } },
      outbound({ hairpin: {} }, { exempt: { gids: [7], sources: ['127.0.0.6', '::6'] } }),
    ),
  ],
  [
    'a port of one’s own, before a wider entry',
    inbound({ include: [{ ports: [80], proxyPort: 15007 }, {}] }),
  ],
  [
    'hairpin without inbound',
    outbound({ hairpin: { port: 15006 } }, { exempt: { uids: [7], sources: ['127.0.0.6', '::6'] } }),
  ],
  [
    'mark 1337 beside another of tproxy',
    { ...outbound({ mode: 'tproxy' }), exempt: { marks: [1337] }, mark: 0x500 },
  ],
  ['the proxy’s own port, scope any', inbound({ scope: 'any', include: { ports: [15006] } })],
  ['said as it is', inbound({ preserveSource: false })],
  ['more than loopback', matching({ destinations: ['0.0.0.0/0', '::/0'] })],
  ['sidecar', sidecar()],
];

for (const [name, config] of accepted) {
  t.test(`accepted: ${name}`, async (t) => {
    t.ok(planRules(config).chains);
  });
}
