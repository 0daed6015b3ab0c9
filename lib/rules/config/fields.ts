// Reads one option of a configuration: its type, its range, its spelling.
import { checkInteger, invalidType } from '../../arguments.ts';
import { codedError } from '../../errors.ts';
import type { Family, PortRange } from './config.ts';
import { mergeRanges, parseCidr, parsePorts, type Range } from './ranges.ts';
import { overlap } from './refusals.ts';

/** Throws unless `value` is an object whose properties are all known: a misspelt option must not go unnoticed. */
export function checkObject(option: string, value: unknown, known: readonly string[]): void {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw invalidType(option, 'an object', value);
  }
  const unknown = Object.keys(value).find((key) => !known.includes(key));
  if (unknown !== undefined) {
    throw codedError('ERR_RULES_OPTION', `${option} has no option '${unknown}'`, {
      hint: `it has ${known.join(', ')}`,
    });
  }
}

export function list<T>(option: string, value: readonly T[] | undefined): readonly T[] {
  if (value !== undefined && !Array.isArray(value)) throw invalidType(option, 'an array', value);
  return value ?? [];
}

export function oneOf<T extends string>(option: string, value: T | undefined, allowed: readonly T[]): T {
  if (value !== undefined && allowed.includes(value)) return value;
  throw codedError('ERR_RULES_OPTION', `${option}: '${String(value)}' is none of ${allowed.join(', ')}`);
}

export function someOf<T extends string>(
  option: string,
  value: readonly T[] | undefined,
  allowed: readonly T[],
): readonly T[] {
  if (value === undefined) return allowed;
  const chosen = list(option, value);
  if (chosen.length === 0)
    throw codedError('ERR_RULES_OPTION', `${option} is empty`, { hint: `it has ${allowed.join(', ')}` });
  for (const entry of chosen) oneOf(option, entry, allowed);
  return allowed.filter((entry) => chosen.includes(entry));
}

export function flag(option: string, value: boolean | undefined): boolean {
  if (value !== undefined && typeof value !== 'boolean') throw invalidType(option, 'of type boolean', value);
  return value ?? false;
}

export function ports(option: string, value: readonly PortRange[] | undefined): Range[] {
  const read = list(option, value).map((entry) => parsePorts(option, entry));
  return mergeRanges(read, (a, b) => overlap(option, `${a.first}-${a.last} and ${b.first}-${b.last}`));
}

export function addresses(
  option: string,
  value: readonly string[] | undefined,
  families: readonly Family[],
): Record<Family, Range[]> {
  const read = list(option, value).map((text) => ({ text, ...parseCidr(option, text) }));
  for (const { family, text } of read) {
    if (families.includes(family)) continue;
    throw codedError('ERR_RULES_CONTRADICTION', `${option}: ${text} is ${family}, which families leaves out`);
  }
  const of = (family: Family): Range[] => {
    const own = read.filter((entry) => entry.family === family);
    const names = (range: Range): string =>
      own.find((entry) => entry.first >= range.first && entry.last <= range.last)!.text;
    return mergeRanges(own, (a, b) => overlap(option, `${names(a)} and ${names(b)}`));
  };
  return { IPv4: of('IPv4'), IPv6: of('IPv6') };
}

const MAX_ID = 2 ** 32 - 2;

/** Numbers of users or groups, none twice. */
export function ids(option: string, value: readonly number[] | undefined): readonly number[] {
  const all = list(option, value);
  for (const id of all) checkInteger(option, id, 0, MAX_ID);
  if (new Set(all).size !== all.length) overlap(option, `${all.join(', ')}: two of them`);
  return all;
}
