// Configurations that are refused: fields, addresses, and what could never match.
import t from 'tap';
import { planRules, sidecar, type FlowMatch, type RulesConfig } from '../../lib/rules/index.ts';
import type { CodedError } from '../../lib/index.ts';
import { exempt, inbound, matching, outbound, untyped } from '../fixtures/plan-configs.ts';

const refused: [string, RulesConfig, string, RegExp][] = [
  ['nothing', {}, 'ERR_RULES_EMPTY', /no direction/],
  ['no object', untyped('all'), 'ERR_INVALID_ARG_TYPE', /"config"/],
  ['null', untyped(null), 'ERR_INVALID_ARG_TYPE', /"config"/],
  ['an array', untyped([]), 'ERR_INVALID_ARG_TYPE', /"config"/],
  ['misspelt option', untyped({ outbond: {} }), 'ERR_RULES_OPTION', /no option 'outbond'.*outbound/],
  [
    'misspelt field',
    matching({ port: [80] } as FlowMatch),
    'ERR_RULES_OPTION',
    /outbound.include has no option 'port'/,
  ],
  ['name', { ...outbound({}), name: 'A' }, 'ERR_RULES_NAME', /'A' cannot name rules/],
  ['long name', { ...outbound({}), name: 'a'.repeat(16) }, 'ERR_RULES_NAME', /cannot name rules/],
  [
    'mode',
    outbound({ mode: 'nat' as 'redirect' }),
    'ERR_RULES_OPTION',
    /outbound.mode: 'nat' is none of redirect, tproxy/,
  ],
  ['no mode', untyped({ exempt, outbound: { port: 1 } }), 'ERR_RULES_OPTION', /outbound.mode: 'undefined'/],
  ['no port', untyped({ exempt, outbound: { mode: 'redirect' } }), 'ERR_INVALID_ARG_TYPE', /"outbound.port"/],
  ['port 0', outbound({ port: 0 }), 'ERR_OUT_OF_RANGE', /"outbound.port"/],
  ['protocol', outbound({ protocols: ['sctp' as 'tcp'] }), 'ERR_RULES_OPTION', /outbound.protocols: 'sctp'/],
  ['no protocol', outbound({ protocols: [] }), 'ERR_RULES_OPTION', /outbound.protocols is empty/],
  [
    'protocols as text',
    outbound({ protocols: untyped('tcp') as [] }),
    'ERR_INVALID_ARG_TYPE',
    /"outbound.protocols"/,
  ],
  ['no family', outbound({}, { families: [] }), 'ERR_RULES_OPTION', /families is empty/],
  ['flag', untyped({ ...outbound({}), dropInvalid: 'yes' }), 'ERR_INVALID_ARG_TYPE', /"dropInvalid"/],
  ['loopback', outbound({ loopback: 'x' as 'bypass' }), 'ERR_RULES_OPTION', /outbound.loopback/],
  ['scope', inbound({ scope: 'x' as 'host' }), 'ERR_RULES_OPTION', /inbound.scope/],
  ['mark 0', outbound({}, { mark: 0 }), 'ERR_OUT_OF_RANGE', /"mark"/],
  ['table 0', outbound({}, { table: 0 }), 'ERR_OUT_OF_RANGE', /"table"/],
  ['table main', outbound({}, { table: 254 }), 'ERR_RULES_OPTION', /254 is one of the kernel/],
  ['ssh type', untyped({ ...inbound({}), sshConnection: 22 }), 'ERR_INVALID_ARG_TYPE', /"sshConnection"/],

  ['port text', matching({ ports: ['80-' as '80-81'] }), 'ERR_RULES_PORT', /include.ports: '80-' is no port/],
  ['port 65536', matching({ ports: [65536] }), 'ERR_RULES_PORT', /'65536'/],
  ['port zero', matching({ ports: [0] }), 'ERR_RULES_PORT', /'0'/],
  ['ports backwards', matching({ ports: ['90-80'] }), 'ERR_RULES_PORT', /'90-80'/],
  ['port fraction', matching({ ports: [1.5] }), 'ERR_RULES_PORT', /'1.5'/],
  ['ports twice', matching({ ports: [80, 80] }), 'ERR_RULES_OVERLAP', /80-80 and 80-80 overlap/],
  ['ports overlap', matching({ ports: ['80-90', '85-95'] }), 'ERR_RULES_OVERLAP', /80-90 and 85-95/],
  ['ports empty', matching({ ports: [] }), 'ERR_RULES_CONTRADICTION', /include.ports is empty/],

  ['address', matching({ destinations: ['10.0.0'] }), 'ERR_RULES_ADDRESS', /'10.0.0' is no address/],
  [
    'address type',
    matching({ destinations: [10 as unknown as string] }),
    'ERR_RULES_ADDRESS',
    /10 is not text/,
  ],
  ['prefix length', matching({ destinations: ['10.0.0.0/33'] }), 'ERR_RULES_ADDRESS', /from 0 to 32/],
  ['no prefix length', matching({ destinations: ['10.0.0.0/'] }), 'ERR_RULES_ADDRESS', /from 0 to 32/],
  ['two lengths', matching({ destinations: ['10.0.0.0/8/8'] }), 'ERR_RULES_ADDRESS', /no prefix/],
  [
    'host bits',
    matching({ destinations: ['10.1.2.3/8'] }),
    'ERR_RULES_ADDRESS',
    /write 10.0.0.0\/8 for the network/,
  ],
  [
    'host bits v6',
    matching({ destinations: ['2001:db8::1/32'] }),
    'ERR_RULES_ADDRESS',
    /write 2001:db8::\/32/,
  ],
  ['mapped', matching({ destinations: ['::ffff:10.0.0.1'] }), 'ERR_RULES_ADDRESS', /write 10.0.0.1/],
  [
    'mapped, in another spelling',
    matching({ destinations: ['0:0:0:0:0:FFFF:a00:0/104'] }),
    'ERR_RULES_ADDRESS',
    /write 10\.0\.0\.0\/8/,
  ],
  ['zone', matching({ destinations: ['fe80::1%lo'] }), 'ERR_RULES_ADDRESS', /no address/],
  [
    'addresses overlap',
    matching({ destinations: ['10.0.0.0/8', '192.0.2.0/24', '10.9.0.0/16'] }),
    'ERR_RULES_OVERLAP',
    /10.0.0.0\/8 and 10.9.0.0\/16 overlap/,
  ],
  [
    'family left out',
    outbound({ include: { destinations: ['2001:db8::/32'] } }, { families: ['IPv4'] }),
    'ERR_RULES_CONTRADICTION',
    /2001:db8::\/32 is IPv6, which families leaves out/,
  ],
  [
    'families mixed',
    matching({ destinations: ['10.0.0.0/8'], sources: ['2001:db8::/32'] }),
    'ERR_RULES_CONTRADICTION',
    /include.destinations names IPv4 addresses and outbound.include.sources none/,
  ],
  [
    'families half mixed',
    matching({ destinations: ['10.0.0.0/8', '2001:db8::/32'], sources: ['10.0.0.1'] }),
    'ERR_RULES_CONTRADICTION',
    /include.destinations names IPv6 addresses and outbound.include.sources none/,
  ],
  [
    'loopback destination',
    matching({ destinations: ['10.0.0.0/8', '127.0.0.53'] }),
    'ERR_RULES_CONTRADICTION',
    /include\[0\]: what has 127.0.0.53 stays within this host.*outbound.loopback to 'capture'/,
  ],
  ['loopback source', matching({ sources: ['::1'] }), 'ERR_RULES_CONTRADICTION', /what has ::1 stays/],
  ['loopback interface', matching({ interfaces: ['lo'] }), 'ERR_RULES_CONTRADICTION', /what has lo stays/],
  [
    'loopback destination, sidecar',
    sidecar({ outboundCidrs: ['10.0.0.0/8', '127.0.0.0/8'] }),
    'ERR_RULES_CONTRADICTION',
    /127.0.0.0\/8 stays within this host/,
  ],
  [
    'loopback from outside',
    inbound({ include: { destinations: ['127.0.0.0/8'] } }),
    'ERR_RULES_CONTRADICTION',
    /no packet of another host has 127.0.0.0\/8/,
  ],
  [
    'loopback through a gateway',
    { gateway: { mode: 'tproxy', port: 1, include: { interfaces: ['lo'] } } },
    'ERR_RULES_CONTRADICTION',
    /gateway.include\[0\]: no packet of another host has lo/,
  ],
  [
    'exempt source',
    outbound(
      { loopback: 'capture', include: { sources: ['127.0.0.6'] } },
      { exempt: { uids: [1], sources: ['127.0.0.6'] } },
    ),
    'ERR_RULES_CONTRADICTION',
    /127.0.0.6 is in exempt.sources/,
  ],
  [
    'multicast',
    outbound({ protocols: ['udp'], include: { destinations: ['ff02::/16'] } }),
    'ERR_RULES_CONTRADICTION',
    /ff02::\/16 is multicast/,
  ],
  ['mark of nothing', outbound({}, { mark: 7 }), 'ERR_RULES_CONTRADICTION', /^mark: nothing is routed/],
  [
    'table of nothing',
    outbound({ mode: 'tproxy', include: [] }, { table: 7, dns: { port: 53 } }),
    'ERR_RULES_CONTRADICTION',
    /^table: nothing is routed/,
  ],
  [
    'loopback of nothing',
    outbound({ loopback: 'capture', include: [] }, { dns: { port: 53 } }),
    'ERR_RULES_CONTRADICTION',
    /outbound.include is empty, so loopback has no effect/,
  ],
  [
    'protocols of nothing',
    outbound({ protocols: ['tcp', 'udp'], include: [] }, { dns: { port: 53 } }),
    'ERR_RULES_CONTRADICTION',
    /so protocols has no effect/,
  ],
  [
    'exclude of nothing',
    { gateway: { mode: 'redirect', port: 1, include: [], exclude: { ports: [80] } }, dns: { port: 53 } },
    'ERR_RULES_CONTRADICTION',
    /gateway.include is empty, so exclude has no effect/,
  ],

  ['interface', matching({ interfaces: ['eth0"'] }), 'ERR_RULES_INTERFACE', /is no interface name/],
  [
    'long interface',
    matching({ interfaces: ['a'.repeat(16)] }),
    'ERR_RULES_INTERFACE',
    /is no interface name/,
  ],
  ['interface in bytes', matching({ interfaces: ['größegrößeä'] }), 'ERR_RULES_INTERFACE', /15 bytes/],
  ['interface alias', matching({ interfaces: ['eth0:1'] }), 'ERR_RULES_INTERFACE', /is no interface name/],
  ['every interface', matching({ interfaces: ['*'] }), 'ERR_RULES_INTERFACE', /is no interface name/],
  ['interface with plus', matching({ interfaces: ['wg+'] }), 'ERR_RULES_INTERFACE', /not a \+/],
  ['interface type', matching({ interfaces: [1 as unknown as string] }), 'ERR_RULES_INTERFACE', /'1'/],
  ['interfaces overlap', matching({ interfaces: ['eth1', 'eth*'] }), 'ERR_RULES_OVERLAP', /eth\* and eth1/],
  ['interfaces twice', matching({ interfaces: ['eth1', 'eth1'] }), 'ERR_RULES_OVERLAP', /eth1 and eth1/],

  [
    'exempt option',
    outbound({}, { exempt: untyped({ users: [] }) as object }),
    'ERR_RULES_OPTION',
    /no option 'users'/,
  ],
  ['uid', outbound({}, { exempt: { uids: [-1] } }), 'ERR_OUT_OF_RANGE', /"exempt.uids"/],
  ['mark', outbound({}, { exempt: { marks: [-1] } }), 'ERR_OUT_OF_RANGE', /"exempt.marks"/],
  [
    'mark as text',
    outbound({}, { exempt: { marks: ['7' as '7/7'] } }),
    'ERR_INVALID_ARG_TYPE',
    /"exempt.marks"/,
  ],
  ['mask of nothing', outbound({}, { exempt: { marks: ['0/0'] } }), 'ERR_OUT_OF_RANGE', /\(mask\)/],
  [
    'mark beyond its mask',
    outbound({}, { exempt: { marks: ['0x1539/0xfff'] } }),
    'ERR_RULES_CONTRADICTION',
    /0x1539\/0xfff has bits set/,
  ],
  [
    'mark twice',
    outbound({}, { exempt: { marks: [7, '7/0xffffffff'] } }),
    'ERR_RULES_OVERLAP',
    /exempt.marks/,
  ],
  [
    'masked mark is routed back',
    { ...outbound({ mode: 'tproxy' }), exempt: { marks: ['0x39/0xff'] } },
    'ERR_RULES_LOOP',
    /mark 1337 are routed/,
  ],
  ['uid twice', outbound({}, { exempt: { uids: [1, 1] } }), 'ERR_RULES_OVERLAP', /exempt.uids/],
  ['uid of nobody', outbound({}, { exempt: { uids: [2 ** 32 - 1] } }), 'ERR_OUT_OF_RANGE', /"exempt.uids"/],
  ['cgroup', outbound({}, { exempt: { cgroups: ['/system.slice'] } }), 'ERR_RULES_CGROUP', /no cgroup path/],
  ['cgroup quote', outbound({}, { exempt: { cgroups: ['a"b'] } }), 'ERR_RULES_CGROUP', /no cgroup path/],
  ['cgroup type', outbound({}, { exempt: { cgroups: [7 as unknown as string] } }), 'ERR_RULES_CGROUP', /'7'/],

  ['no exemption', outbound({}, { exempt: {} }), 'ERR_RULES_LOOP', /own connections, for ever.*exempt.uids/],
  ['sources alone', outbound({}, { exempt: { sources: ['127.0.0.6'] } }), 'ERR_RULES_LOOP', /for ever/],
  [
    'own mark is routed back',
    { ...outbound({ mode: 'tproxy' }), exempt: { marks: [1339] } },
    'ERR_RULES_LOOP',
    /mark 1339 are routed to this host.*1337 to 1339/,
  ],
  ['hairpin nowhere', outbound({ hairpin: {} }), 'ERR_RULES_CONTRADICTION', /no inbound listener/],
];

for (const [name, config, code, reason] of refused) {
  t.test(`refused: ${name}`, async (t) => {
    const error = t.throws(() => planRules(config)) as unknown as CodedError;
    t.equal(error.code, code);
    t.match(error.message, reason);
    if (/OVERLAP|LOOP|SSH|EMPTY/.test(code)) t.type(error.hint, 'string', 'says what to do');
  });
}
