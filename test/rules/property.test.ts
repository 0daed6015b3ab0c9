// Random configurations, random flows: nftables, iptables and the model must agree on where each flow arrives.
import * as fc from 'fast-check';
import t from 'tap';
import { apply, planRules, remove, verify, type FlowMatch, type RulesConfig } from '../../lib/rules/index.ts';
import { inNamespace, sh } from '../fixtures/netns.ts';
import { CGROUP } from '../fixtures/rule-configs.ts';
import { HOST_ADDRESSES, type Flow } from '../fixtures/rule-model.ts';
import { DIALERS, expected, Network, PORTS } from '../fixtures/rule-network.ts';

/** RULES_SEED=… tries other cases, RULES_RUNS=… more; fast-check prints the seed of a failure. */
const seed = Number(process.env['RULES_SEED'] ?? 1);
const numRuns = Number(process.env['RULES_RUNS'] ?? 8);
const FLOWS = 60;

const SERVERS = ['198.51.100.10', '198.51.100.200', '203.0.113.5', '2001:db8:1::10', '2001:db8:2::5'];

const mostly = <T>(arbitrary: fc.Arbitrary<T>): fc.Arbitrary<T | undefined> =>
  fc.option(arbitrary, { nil: undefined });
const some = <T>(...values: T[]): fc.Arbitrary<T[]> =>
  fc.subarray(values, { minLength: 1, maxLength: Math.min(3, values.length) });

/** Leaves out what is undefined: an option that is not given is not there. */
function given<T extends object>(value: { [K in keyof T]: T[K] | undefined }): T {
  return Object.fromEntries(Object.entries(value).filter(([, entry]) => entry !== undefined)) as T;
}

const match: fc.Arbitrary<FlowMatch> = fc
  .record({
    ports: mostly(some<number | `${number}-${number}`>(80, 443, '8000-8100', '8400-9000', 53, 81)),
    destinations: mostly(
      some(
        '198.51.100.0/25',
        '198.51.100.200',
        '203.0.113.0/24',
        '10.0.0.0/14',
        '2001:db8:1::/48',
        'fd01::/64',
        '2001:db8:2::5',
      ),
    ),
    sources: mostly(some('10.1.0.0/25', '10.1.0.128/25', '10.2.0.1', 'fd01::2', 'fd02::/64', '::/1')),
    interfaces: mostly(some('lan0', 'wan*', 'lo', 'eth0')),
  })
  .map((record) => given<FlowMatch>(record));

const direction = (port: number) =>
  fc
    .record({
      mode: fc.constantFrom('redirect' as const, 'tproxy' as const),
      port: fc.constant(port),
      protocols: mostly(some<'tcp' | 'udp'>('tcp', 'udp')),
      include: mostly(fc.array(match, { minLength: 1, maxLength: 2 })),
      exclude: mostly(fc.array(match, { maxLength: 2 })),
    })
    .map((record) => given<NonNullable<RulesConfig['inbound']>>(record));

const config: fc.Arbitrary<RulesConfig> = fc
  .record({
    name: fc.constantFrom('default', 'other'),
    families: mostly(some<'IPv4' | 'IPv6'>('IPv4', 'IPv6')),
    outbound: mostly(
      fc
        .tuple(
          direction(15001),
          mostly(fc.constantFrom('bypass' as const, 'capture' as const)),
          mostly(fc.record({ exceptPorts: some(443, 8080) })),
        )
        .map(([common, loopback, hairpin]) => ({ ...common, ...given({ loopback, hairpin }) })),
    ),
    inbound: mostly(direction(15006)),
    gateway: mostly(direction(15002)),
    dns: mostly(
      fc
        .record({
          port: fc.constant(15053),
          servers: mostly(some('198.51.100.10', '203.0.113.5', '2001:db8:2::5')),
        })
        .map((record) => given<NonNullable<RulesConfig['dns']>>(record)),
    ),
    exempt: fc
      .record({
        uids: mostly(fc.constant([1337])),
        gids: mostly(fc.constant([1337])),
        marks: mostly(fc.constant([77])),
        cgroups: mostly(fc.constant([CGROUP])),
        sources: mostly(fc.constant(['127.0.0.6', '::6'])),
      })
      .map((record) => given<NonNullable<RulesConfig['exempt']>>(record)),
    dropInvalid: mostly(fc.boolean()),
    mark: mostly(fc.constantFrom(1, 0x7fff0000)),
    table: mostly(fc.constantFrom(7, 100000)),
  })
  .map((record) => given<RulesConfig>(record))
  .filter((candidate) => {
    try {
      return Object.keys(planRules(candidate).chains).length > 0;
    } catch (error) {
      // Only a refusal with a reason: anything else is a fault of ours.
      if (!String((error as NodeJS.ErrnoException).code).startsWith('ERR_RULES_')) throw error;
      return false;
    }
  });

const flow: fc.Arbitrary<Flow> = fc
  .record({
    by: fc.constantFrom(
      'program',
      'program',
      'proxy',
      'group',
      'contained',
      'marked',
      'client',
      'client',
      'client',
    ),
    protocol: fc.constantFrom('tcp' as const, 'udp' as const),
    destination: fc.constantFrom(...SERVERS, ...HOST_ADDRESSES),
    port: fc.constantFrom(...PORTS),
    second: fc.boolean(),
  })
  // An UDP socket without a mark is not the marked dialer's; loopback addresses are not to be had from outside.
  .filter(({ by, protocol }) => by !== 'marked' || protocol === 'tcp')
  .filter(({ by, destination }) => DIALERS[by]!.host || !['127.0.0.1', '::1'].includes(destination))
  .map(({ second, ...rest }) => {
    const v6 = rest.destination.includes(':');
    const local = HOST_ADDRESSES.includes(rest.destination);
    if (!DIALERS[rest.by]!.host) {
      return { ...rest, source: v6 ? (second ? 'fd01::82' : 'fd01::2') : second ? '10.1.0.130' : '10.1.0.2' };
    }
    if (!local) return { ...rest, source: v6 ? 'fd02::1' : '10.2.0.1' };
    return { ...rest, source: second ? (v6 ? '::6' : '127.0.0.6') : rest.destination };
  });

await inNamespace(
  t,
  import.meta.url,
  async () => {
    const network = await Network.start();
    t.teardown(() => network.stop());

    t.test(`seed ${seed}`, async () => {
      const property = fc.asyncProperty(
        config,
        fc.array(flow, { minLength: FLOWS, maxLength: FLOWS }),
        async (configuration, flows) => {
          const plan = planRules(configuration);
          try {
            for (const backend of ['nftables', 'iptables'] as const) {
              await apply(plan, { backend });
              const difference = await verify(plan, { backend });
              if (difference) throw new Error(`${backend}: ${JSON.stringify(difference)}`);
              sh('conntrack -F 2>&1');
              const arrivals = await network.sendAll(flows);
              for (const [i, one] of flows.entries()) {
                const wanted = expected(configuration, one);
                if (arrivals[i] === wanted) continue;
                throw new Error(
                  `${backend}: ${JSON.stringify(one)} arrived at ${arrivals[i]}, not at ${wanted}`,
                );
              }
            }
          } finally {
            await remove(plan.name);
          }
        },
      );
      await fc.assert(property, { seed, numRuns, endOnFailure: true });
    });
  },
  { root: true },
);
