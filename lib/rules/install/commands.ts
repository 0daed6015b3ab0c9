// The single commands that installing and removing are made of.
import type { Family } from '../config/config.ts';
import { chainName, type IptablesTable } from '../text/iptables.ts';
import type { NftLines } from '../text/nftables.ts';
import type { Step, Sysctl } from '../types.ts';
import { settingPath } from './sysctl.ts';
import { writeUndo, type Undo } from './undo.ts';

const RESTORE: Record<Family, 'iptables-restore' | 'ip6tables-restore'> = {
  IPv4: 'iptables-restore',
  IPv6: 'ip6tables-restore',
};

export function nftStep(why: string, stdin: string): Step {
  return { why, command: ['nft', '-f', '-'], stdin };
}

export function restoreStep(why: string, family: Family, stdin: string): Step {
  // Waits for others that change rules, as legacy iptables locks.
  return { why, command: [RESTORE[family], '--noflush', '--wait=10'], stdin };
}

export function sysctlStep(why: string, { key, value }: Sysctl): Step {
  return { why, command: ['tee', settingPath(key)], stdin: `${value}\n` };
}

/** The record in nftables: a chain that no hook leads to. */
export function nftRecord(undo: Undo): NftLines {
  const facts = writeUndo(undo);
  return facts.length > 0 ? ['chain record {', ...facts.map((fact) => `return comment "${fact}"`), '}'] : [];
}

/** The record in iptables, in the table `filter`. */
export function iptablesRecord(name: string, undo: Undo): IptablesTable {
  const facts = writeUndo(undo).map((fact) => `-m comment --comment "${fact}" -j RETURN`);
  return { table: 'filter', chains: new Map([[chainName(name, 'record'), facts]]), jumps: [], foreign: [] };
}

export function deleteTable(table: string): string {
  return `table ${table}\ndelete table ${table}\n`;
}

/** Deletes a table, `ip nat`, or a chain, `ip nat OUTPUT`. nft has no word for “if it is empty”: it was, just now. */
export function deleteMade(entry: string): string {
  return entry.split(' ').length === 2 ? deleteTable(entry) : `delete chain ${entry}\n`;
}
