// Nothing is accepted and then ignored: every setting changes the plan, and every rule that captures can be reached.
import { isDeepStrictEqual } from 'node:util';
import * as fc from 'fast-check';
import t from 'tap';
import { covers, parseCidr, parsePorts } from '../../lib/rules/config/ranges.ts';
import { readConfig } from '../../lib/rules/config/settings.ts';
import { planRules, type Condition, type Rule, type RulesConfig } from '../../lib/rules/index.ts';
import { config } from '../fixtures/rule-arbitraries.ts';
import { configs } from '../fixtures/rule-configs.ts';
import { capturing, corners } from '../fixtures/rule-walk.ts';

/** The value with one of its settings, or one entry of a list, left out: once for each. */
function* without(value: unknown): Generator<{ value: unknown; path: string }> {
  if (typeof value !== 'object' || value === null) return;
  for (const [key, entry] of Object.entries(value)) {
    const put = (replacement: unknown): unknown =>
      Array.isArray(value)
        ? value.map((one, i) => (i === Number(key) ? replacement : one))
        : { ...value, [key]: replacement };
    for (const inner of without(entry)) yield { value: put(inner.value), path: `${key}.${inner.path}` };
    const rest = Object.fromEntries(Object.entries(value).filter(([other]) => other !== key));
    yield { value: Array.isArray(value) ? value.filter((_, i) => i !== Number(key)) : rest, path: key };
  }
}

/** Settings that change nothing, in a configuration that is accepted. */
function ignored(given: RulesConfig): string[] {
  const plan = planRules(given);
  return [...without(given)]
    .filter(({ path }) => {
      // Limits: what is not captured anyway may be excluded, or be of a family that is allowed.
      if (path.includes('exclude') || path.startsWith('families')) return false;
      // Only outbound looks at who sends; a proxy names itself, and where it dials from, whatever is captured.
      if (path.startsWith('exempt.sources')) return false;
      return given.outbound !== undefined || !path.startsWith('exempt');
    })
    .filter(({ value }) => {
      const less = value as RulesConfig;
      try {
        // What is the default anyway may be said.
        return (
          isDeepStrictEqual(planRules(less), plan) && !isDeepStrictEqual(readConfig(less), readConfig(given))
        );
      } catch {
        return false;
      }
    })
    .map(({ path }) => path);
}

const LOOPBACK = ['127.0.0.0/8', '::1'];
const networks = (texts: readonly string[]) => texts.map((text) => parseCidr('test', text));
const inside = (outer: readonly string[], inner: readonly string[] | undefined): boolean =>
  inner !== undefined &&
  networks(inner).every((one) =>
    networks(outer).some((all) => all.family === one.family && covers([all], [one])),
  );
const ports = (texts: readonly string[]) => texts.map((text) => parsePorts('test', text as '1-2'));

/** Does every packet that `narrow` matches match `wide` too? Sure where it says yes. */
function within(narrow: Condition, wide: Condition): boolean {
  return Object.entries(wide).every(([field, value]) => {
    const own = narrow[field as keyof Condition];
    const local = inside(LOOPBACK, narrow.destinations) || inside(LOOPBACK, narrow.sources);
    switch (field) {
      case 'sources':
      case 'destinations':
        return inside(value as string[], own as string[] | undefined);
      case 'ports':
        return own !== undefined && covers(ports(value as string[]), ports(own as string[]));
      case 'notPorts':
        return (
          narrow.ports !== undefined &&
          !ports(narrow.ports).some((one) => covers(ports(value as string[]), [one]))
        );
      case 'inInterfaces':
      case 'outInterfaces':
        return (isDeepStrictEqual(value, ['lo']) && local) || isDeepStrictEqual(own, value);
      default:
        return isDeepStrictEqual(own, value);
    }
  });
}

const GOES_ON = new Set(['mark', 'connmark', 'save', 'restore', 'zone']);
const CAPTURES = new Set(['redirect', 'tproxy', 'connmark', 'mark']);

/** Exclusions may take one family of what is captured whole: that is what they are for. */
const takes = ({ action, why }: Rule): boolean => !GOES_ON.has(action.do) && !why.startsWith('excluded');

/** Rules that capture nothing, because an earlier one takes all their packets. */
function unreachable(given: RulesConfig): Rule[] {
  return Object.values(planRules(given).chains)
    .flat()
    .flatMap(({ rules }) =>
      rules.filter(
        ({ when, action }, i) =>
          CAPTURES.has(action.do) &&
          rules.slice(0, i).some((earlier) => takes(earlier) && within(when, earlier.when)),
      ),
    );
}

const HOOKS = { outbound: 'out', inbound: 'in', gateway: 'gw' } as const;

/** What is to be captured and of which no packet is, in any family: the path of each such entry. */
function capturesNothing(given: RulesConfig): string[] {
  const settings = readConfig(given);
  const { chains } = planRules(given);
  return (['outbound', 'inbound', 'gateway'] as const).flatMap((option) => {
    const { include = [], mode } = settings[option] ?? {};
    const table = mode === 'redirect' ? 'nat' : 'mangle';
    return include.flatMap((entry, i) => {
      const captured = settings.families.some((family) => {
        const chain = chains[family]?.find((one) => one.table === table && one.id === HOOKS[option]);
        if (chain === undefined) return false;
        for (const packet of corners(settings, option, entry, family)) {
          if (capturing(chain, packet) !== undefined) return true;
        }
        return false;
      });
      // The proxy's own calls to this host come in by an interface that no other host's packets do.
      const calls = option === 'inbound' && settings.outbound?.hairpin && entry.interfaces?.includes('lo');
      return captured || calls ? [] : [`${option}.include[${i}]`];
    });
  });
}

for (const [name, given] of Object.entries(configs)) {
  t.test(name, async (t) => {
    t.same(ignored(given), []);
    t.same(unreachable(given), []);
    t.same(capturesNothing(given), []);
  });
}

t.test('random configurations', async (t) => {
  const seed = Number(process.env['RULES_SEED'] ?? 1);
  fc.assert(
    fc.property(config, (given) => {
      for (const path of ignored(given)) throw new Error(`${path} changes nothing`);
      for (const path of capturesNothing(given)) throw new Error(`${path} captures nothing`);
      for (const rule of unreachable(given)) throw new Error(`never reached: ${JSON.stringify(rule)}`);
    }),
    { seed, numRuns: Number(process.env['RULES_RUNS'] ?? 30), endOnFailure: true },
  );
  t.pass(`seed ${seed}`);
});
