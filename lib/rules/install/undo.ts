import type { Family } from '../config/config.ts';
import type { MarkRoute, Sysctl } from '../types.ts';

/**
 * What an installation changes beside its own tables and chains. It is written into the network namespace itself,
 * as comments of rules that no packet meets, before the first change and removed after the last is undone: however
 * an installation ended, the next one reads there what is left of it. A file would not do: namespaces come and go
 * without it, and share one /run.
 */
export interface Undo {
  routes: readonly MarkRoute[];
  /** With the values from before. */
  sysctls: readonly Sysctl[];
  /** Tables and chains that iptables made for itself in nftables: `ip nat`, `ip nat OUTPUT`. */
  made: readonly string[];
}

export const NOTHING_TO_UNDO: Undo = { routes: [], sysctls: [], made: [] };

/** The record as comments, one fact each. */
export function writeUndo(undo: Undo): string[] {
  return [
    ...undo.routes.map(({ family, mark, table }) => `undo route ${family} ${mark} ${table}`),
    ...undo.sysctls.map(({ key, value }) => `undo sysctl ${key} ${value}`),
    ...undo.made.map((entry) => `undo made ${entry}`),
  ];
}

/** Reads the comments from the lines of the record's chain. */
export function readUndo(lines: readonly string[]): Undo {
  const facts = lines.map((line) => /"undo (\w+) ([^"]*)"/.exec(line)).filter((fact) => fact !== null);
  const of = (kind: string): string[] => facts.filter(([, word]) => word === kind).map(([, , rest]) => rest!);
  return {
    routes: of('route').map((fact) => {
      const [family, mark, table] = fact.split(' ');
      return { family: family as Family, mark: Number(mark), table: Number(table) };
    }),
    sysctls: of('sysctl').map((fact) => {
      const [key = '', value = ''] = fact.split(' ');
      return { key, value };
    }),
    made: of('made'),
  };
}

export function sameUndo(a: Undo, b: Undo): boolean {
  return writeUndo(a).join('\n') === writeUndo(b).join('\n');
}
