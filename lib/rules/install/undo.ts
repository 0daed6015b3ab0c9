// The record of an installation: what it changed beside its own tables and chains.
import { codedError, type CodedError } from '../../errors.ts';
import type { Family } from '../config/config.ts';
import type { MarkRoute, Sysctl } from '../types.ts';
import type { Holder } from './holder.ts';
import { printable } from './printable.ts';
import { isSetting } from './sysctl.ts';

/**
 * What an installation changes beside its own tables and chains. It is written into the network namespace itself,
 * as comments of rules that no packet meets, before the first change and removed after the last is undone: however
 * an installation ended, the next one reads there what is left of it. A file would not do: namespaces come and go
 * without it, and share one /run.
 *
 * Everybody with CAP_NET_ADMIN in the namespace can write such comments, and root acts on them. So each fact is read
 * by a pattern that leaves no room for anything but what {@link writeUndo} writes, and one that does not fit it
 * refuses the whole record: following a part of it would be following somebody else.
 */
export interface Undo {
  routes: readonly MarkRoute[];
  /** With the values from before. */
  sysctls: readonly Sysctl[];
  /** Tables and chains that iptables made for itself in nftables: `ip nat`, `ip nat OUTPUT`. */
  made: readonly string[];
  /** Whose rules they are, if somebody said so. */
  holder?: Holder;
}

export const NOTHING_TO_UNDO: Undo = { routes: [], sysctls: [], made: [] };

/** An interface may have a quote in its name, which would end the comment. */
function encode(key: string): string {
  const byte = (code: number): string => `%${code.toString(16).padStart(2, '0')}`;
  return key.replaceAll(/[^\w./@-]/gu, (character) => [...Buffer.from(character)].map(byte).join(''));
}

function decode(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return '';
  }
}

/** The record as comments, one fact each. */
export function writeUndo(undo: Undo): string[] {
  const { holder } = undo;
  return [
    ...undo.routes.map(({ family, mark, table }) => `undo route ${family} ${mark} ${table}`),
    ...undo.sysctls.map(({ key, value }) => `undo sysctl ${encode(key)} ${value}`),
    ...undo.made.map((entry) => `undo made ${entry}`),
    ...(holder === undefined ? [] : [`held ${holder.pid} ${holder.start} ${holder.namespace}`]),
  ];
}

/** A mark or a table: 32 bits, not 0. */
function isNumber(value: number): boolean {
  return value > 0 && value < 2 ** 32;
}

function readRoute(fact: string): MarkRoute | undefined {
  const [, family, ...numbers] = /^undo route (IPv4|IPv6) (\d{1,10}) (\d{1,10})$/.exec(fact) ?? [];
  const [mark = 0, table = 0] = numbers.map(Number);
  // 253 to 255 are the kernel's own.
  const valid = isNumber(mark) && isNumber(table) && !(table >= 253 && table <= 255);
  return valid ? { family: family as Family, mark, table } : undefined;
}

function readSysctl(fact: string): Sysctl | undefined {
  const [, text = '', value = ''] = /^undo sysctl ([\w./@%-]+) (-?\d+)$/.exec(fact) ?? [];
  const sysctl = { key: decode(text), value };
  return isSetting(sysctl) ? sysctl : undefined;
}

function readMade(fact: string): string | undefined {
  return /^undo made (ip6? (?:raw|mangle|nat|filter)(?: (?:PREROUTING|OUTPUT|FORWARD))?)$/.exec(fact)?.[1];
}

function readHolder(fact: string): Holder | undefined {
  const [, ...numbers] = /^held ([1-9]\d{0,9}) (\d{1,15}) (\d{1,15})$/.exec(fact) ?? [];
  const [pid, start, namespace] = numbers.map(Number);
  return pid === undefined ? undefined : { pid, start: start!, namespace: namespace! };
}

/** For an answer of the kernel or of a tool that cannot be what this package wrote. */
export function unreadable(what: string, hint?: string): CodedError {
  return codedError('ERR_RULES_UNREADABLE', what, hint === undefined ? {} : { hint });
}

/**
 * Reads the comments of a record.
 *
 * @throws `ERR_RULES_UNREADABLE` if one of them is not what {@link writeUndo} writes
 */
export function readUndo(comments: readonly string[], where: string, remedy: string): Undo {
  const undo = { routes: [] as MarkRoute[], sysctls: [] as Sysctl[], made: [] as string[] };
  let holder: Holder | undefined;
  for (const fact of comments) {
    const [route, sysctl, made, held] = [readRoute(fact), readSysctl(fact), readMade(fact), readHolder(fact)];
    if (route !== undefined) undo.routes.push(route);
    else if (sysctl !== undefined) undo.sysctls.push(sysctl);
    else if (made !== undefined) undo.made.push(made);
    else if (held !== undefined && holder === undefined) holder = held;
    else {
      throw unreadable(
        `the record of what to undo (${where}) was altered, or is of another version: “${printable(fact)}”`,
        `nothing was done; undo by hand what it says, as far as you trust it, and delete it: ${remedy}`,
      );
    }
  }
  return holder === undefined ? undo : { ...undo, holder };
}

/** Do two records say the same, in whatever order? */
export function sameUndo(a: Undo, b: Undo): boolean {
  return writeUndo(a).sort().join('\n') === writeUndo(b).sort().join('\n');
}
