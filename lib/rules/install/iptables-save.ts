// What iptables has: the chains of a plan, read from iptables-save.
import type { Family } from '../config/config.ts';
import { CHAIN_SUFFIX, chainName, type IptablesTable } from '../text/iptables.ts';
import { printable } from './printable.ts';
import { unreadable } from './undo.ts';

/** The tool that prints the rules of a family. */
export const SAVE: Record<Family, string> = { IPv4: 'iptables-save', IPv6: 'ip6tables-save' };

export interface SavedTables {
  tables: IptablesTable[];
  /** Tables that iptables cannot show: somebody has put a rule of nft's own kind into them. */
  hidden: string[];
}

/** A chain of whatever plan. */
const ANY_PLAN = new RegExp(`^${chainName('[a-z0-9-]+', '')}(?:${CHAIN_SUFFIX})$`);

/** What the chains of a plan are called. */
export function ownChains(name: string): RegExp {
  return new RegExp(`^${chainName(name, '')}(?:${CHAIN_SUFFIX})$`);
}

/**
 * The lines of iptables-save. A quoted text, a comment for instance, may hold line breaks, and after them what looks
 * like another table: those are no lines.
 */
function linesOf(saved: string): string[] {
  const lines = saved.match(/#[^\n]*\n?|(?:[^"\n]|"(?:\\[^]|[^"\\])*")*\n|[^]+$/g) ?? [];
  return lines.map((line) => line.replace(/\n$/, ''));
}

/** What is unlike in the spelling of iptables-save's versions: quotes where they are not needed. */
function unquote(rule: string): string {
  return rule.replace(
    /--path "((?:\\.|[^"\\])*)"/,
    (_, path: string) => `--path ${path.replaceAll(/\\(.)/g, '$1')}`,
  );
}

/** What leads from a chain that is not the plan's into its own, and what of others is asked before that. */
function jumpsIn(
  hook: string,
  rules: readonly string[],
  own: RegExp,
): Pick<IptablesTable, 'jumps' | 'foreign'> {
  const jump = (rule: string): string => /^-j (\S+)$/.exec(rule)?.[1] ?? '';
  const last = rules.findLastIndex((rule) => own.test(jump(rule)));
  const jumps = rules.map(jump).filter((chain) => own.test(chain));
  if (jumps.length > 0 && !/^[\w.-]+$/.test(hook)) throw unreadable(`a chain called ${printable(hook)}`);
  const foreign = rules.filter((rule, i) => {
    const target = / -[jg] (\S+)$/.exec(` ${rule}`)?.[1] ?? '';
    // Other plans of this package have flows of their own.
    return own.test(target) ? jump(rule) === '' : i < last && !ANY_PLAN.test(target);
  });
  return {
    jumps: jumps.map((chain) => ({ hook, chain })),
    foreign: foreign.map((rule) => ({ hook, rule })),
  };
}

/**
 * Reads from iptables-save what belongs to the plan of that name.
 *
 * @throws `ERR_RULES_UNREADABLE` if a line is none of iptables-save's
 */
export function parseIptablesSave(name: string, saved: string): SavedTables {
  const own = ownChains(name);
  const blocks = new Map<string, Map<string, string[]>>();
  const hidden: string[] = [];
  let table: string | undefined;
  const odd = (line: string): Error =>
    unreadable(`iptables-save printed a line that makes no sense: ${printable(line.slice(0, 100))}`);
  for (const line of linesOf(saved)) {
    const [, incompatible] = /^# Table `(\w+)' is incompatible/.exec(line) ?? [];
    const [, begun] = /^\*(\w+)$/.exec(line) ?? [];
    const [, declared] = /^:(\S+) \S+ \[\d+:\d+\]$/.exec(line) ?? [];
    const [, chain, rule = ''] = /^-A (\S+)(?: ([^]*))?$/.exec(line) ?? [];
    const rules = table === undefined ? undefined : blocks.get(table)!;
    if (incompatible !== undefined) hidden.push(incompatible);
    else if (line === '' || line.startsWith('#')) continue;
    else if (begun !== undefined && rules === undefined && !blocks.has(begun)) {
      blocks.set((table = begun), new Map());
    } else if (line === 'COMMIT' && rules !== undefined) table = undefined;
    else if (declared !== undefined && rules !== undefined && !rules.has(declared)) rules.set(declared, []);
    else if (chain !== undefined && rules?.has(chain)) rules.get(chain)!.push(unquote(rule));
    else throw odd(line);
  }
  if (table !== undefined) throw odd(`(the end, in the middle of the table ${table})`);

  const tables = [...blocks].map(([table, rules]): IptablesTable => {
    const others = [...rules].filter(([chain]) => !own.test(chain));
    const jumps = others.map(([chain, lines]) => jumpsIn(chain, lines, own));
    return {
      table,
      chains: new Map([...rules].filter(([chain]) => own.test(chain))),
      jumps: jumps.flatMap((entry) => entry.jumps),
      foreign: jumps.flatMap((entry) => entry.foreign),
    };
  });
  return { tables: tables.filter(({ chains }) => chains.size > 0), hidden };
}
