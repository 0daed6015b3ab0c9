// What iptables does with every connection before it comes to the rules in question, read off `iptables-save`.

/** A rule of a built-in chain. */
export interface FoundAhead {
  /** As `iptables` takes it after -A or -D: `OUTPUT -p tcp -j ACCEPT`. */
  rule: string;
  table: string;
}

interface Rule {
  chain: string;
  /** Without its comment and counters. */
  conditions: string;
  target: string;
  text: string;
}

const RULE = /^(?:\[\d+:\d+\] )?-A (\S+) (.*?)-[jg] (\S+)(.*)$/;
const BUILT_IN = ['PREROUTING', 'OUTPUT'];
const COMMENT = /-m comment --comment ("(?:[^"\\]|\\.)*"|\S+) /;
/** What leads to a port: to which, `REDIRECT --to-ports`, `TPROXY --on-port`, `DNAT --to-destination`. */
const LEADS = /--(?:to-ports|on-port) (\d+)|--to-destination \S*?:(\d+)/;

function rulesOf(saved: string, table: string): Rule[] {
  const lines = new RegExp(`^\\*${table}\n(.*?)^COMMIT$`, 'ms').exec(saved)?.[1]?.split('\n') ?? [];
  return lines.flatMap((line) => {
    const [, chain, conditions, target, rest] = RULE.exec(line) ?? [];
    if (chain === undefined) return [];
    const text = `${chain} ${conditions}-j ${target}${rest}`;
    return [{ chain, conditions: conditions!.replace(COMMENT, '').trim(), target: target!, text }];
  });
}

/** Rules that take every TCP connection before those of the same chain that lead to this port. */
export function takenAhead(saved: string, port: number): FoundAhead[] {
  return ['mangle', 'nat'].flatMap((table) => {
    const rules = rulesOf(saved, table);
    const within = (chain: string, is: (rule: Rule) => boolean, seen = new Set<string>()): boolean => {
      if (seen.has(chain)) return false;
      seen.add(chain);
      return rules.some((rule) => rule.chain === chain && (is(rule) || within(rule.target, is, seen)));
    };
    const leads = ({ text }: Rule): boolean => {
      const [, plain, address] = LEADS.exec(text) ?? [];
      return Number(plain ?? address) === port;
    };
    const all = ({ conditions }: Rule): boolean => conditions === '' || conditions === '-p tcp';
    // RETURN goes on in the chain before; in a built-in one there is none.
    const ends = (rule: Rule): boolean =>
      all(rule) && /^(ACCEPT|DROP|REDIRECT|TPROXY|DNAT)$/.test(rule.target);
    return BUILT_IN.flatMap((chain) => {
      const own = rules.filter((rule) => rule.chain === chain);
      const first = own.findIndex((rule) => leads(rule) || within(rule.target, leads));
      return own
        .slice(0, Math.max(first, 0))
        .filter((rule) => all(rule) && (ends(rule) || rule.target === 'RETURN' || within(rule.target, ends)))
        .map(({ text }) => ({ rule: text, table }));
    });
  });
}
