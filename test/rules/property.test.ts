// Random configurations, random flows: nftables, iptables and the model must agree on where each flow arrives.
import * as fc from 'fast-check';
import t from 'tap';
import { apply, planRules, remove, verify } from '../../lib/rules/index.ts';
import { inNamespace, sh } from '../fixtures/netns.ts';
import { config } from '../fixtures/rule-arbitraries.ts';
import { HOST_ADDRESSES, type Flow } from '../fixtures/rule-model.ts';
import { DIALERS, expected, Network, PORTS } from '../fixtures/rule-network.ts';

/** RULES_SEED=… tries other cases, RULES_RUNS=… more; fast-check prints the seed of a failure. */
const seed = Number(process.env['RULES_SEED'] ?? 1);
const numRuns = Number(process.env['RULES_RUNS'] ?? 8);
const FLOWS = 60;

const SERVERS = ['198.51.100.10', '198.51.100.200', '203.0.113.5', '2001:db8:1::10', '2001:db8:2::5'];

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
