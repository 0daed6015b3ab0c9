// Checks of what a caller passes in: errors as Node words them, before anything happens.
import { codedError, type CodedError } from './errors.ts';

function describe(value: unknown): string {
  if (typeof value === 'string') return `'${value.length > 40 ? `${value.slice(0, 40)}…` : value}'`;
  if (value === null || (typeof value !== 'object' && typeof value !== 'function')) return String(value);
  return `an instance of ${(value as object).constructor?.name ?? 'Object'}`;
}

/** ERR_INVALID_ARG_TYPE, as Node words it. */
export function invalidType(name: string, expected: string, value: unknown): CodedError {
  const message = `The "${name}" argument must be ${expected}. Received ${describe(value)}`;
  return codedError('ERR_INVALID_ARG_TYPE', message, { base: TypeError });
}

/** ERR_OUT_OF_RANGE, as Node words it. */
export function outOfRange(name: string, range: string, value: unknown): CodedError {
  const message = `The value of "${name}" is out of range. It must be ${range}. Received ${describe(value)}`;
  return codedError('ERR_OUT_OF_RANGE', message, { base: RangeError });
}

/** Throws ERR_INVALID_ARG_VALUE unless every name is one of the options that `owner` has. */
export function checkOptionNames(owner: string, names: readonly string[], known: ReadonlySet<string>): void {
  const unknown = names.find((name) => !known.has(name));
  if (unknown === undefined) return;
  throw codedError('ERR_INVALID_ARG_VALUE', `${owner} has no option "${unknown}"`, { base: TypeError });
}

/** The longest time that a timer of Node's can be set to. */
export const MAX_MS = 2 ** 31 - 1;

/** Throws unless `value` is a whole number from `min` to `max`. */
export function checkInteger(
  name: string,
  value: unknown,
  min: number,
  max: number,
): asserts value is number {
  if (typeof value !== 'number') throw invalidType(name, 'of type number', value);
  if (!Number.isInteger(value)) throw outOfRange(name, 'an integer', value);
  if (value < min || value > max) throw outOfRange(name, `>= ${min} && <= ${max}`, value);
}

/** Throws unless `value` is a boolean. */
export function checkBoolean(name: string, value: unknown): asserts value is boolean {
  if (typeof value !== 'boolean') throw invalidType(name, 'of type boolean', value);
}

/** Throws unless `value` is an AbortSignal, or nothing. */
export function checkSignal(name: string, value: unknown): asserts value is AbortSignal | undefined {
  if (value !== undefined && !(value instanceof AbortSignal))
    throw invalidType(name, 'an instance of AbortSignal', value);
}

/** Throws unless `value` is a string with something in it. */
export function checkString(name: string, value: unknown): asserts value is string {
  if (typeof value !== 'string' || value === '') throw invalidType(name, 'a non-empty string', value);
}

/** Throws unless `value` is a list of some of these, at least of one. */
export function checkMembers(name: string, value: unknown, members: readonly string[]): void {
  if (!Array.isArray(value) || value.length === 0)
    throw invalidType(name, 'an array that is not empty', value);
  for (const one of value) {
    if (!members.includes(one as string)) throw outOfRange(name, `of ${members.join(', ')}`, one);
  }
}

/** Throws if an object has anything but these properties: one that is misspelt would be left out without a word. */
export function checkKnown(name: string, value: object, known: readonly string[]): void {
  for (const [key, given] of Object.entries(value)) {
    if (given === undefined || known.includes(key)) continue;
    throw codedError('ERR_INVALID_ARG_VALUE', `"${name}" has no property "${key}"`, { base: TypeError });
  }
}

/** Throws unless `fd` can be a file descriptor: a whole number from 0 to 2³¹ − 1. */
export function checkFd(fd: unknown): asserts fd is number {
  checkInteger('fd', fd, 0, 2 ** 31 - 1);
}
