// Packet marks, whole or by the bits of a mask, as several programs share one mark.
import { checkInteger } from '../../arguments.ts';
import { contradiction, overlap } from './refusals.ts';

/** Packets whose mark, of which the mask's bits are looked at, is `mark`. */
export interface Masked {
  mark: number;
  mask: number;
}

/** The mask that leaves a mark whole. */
export const ALL_BITS = 2 ** 32 - 1;

/** Is it one of these packets? */
export function hasMark(mark: number, wanted: Masked): boolean {
  return (mark & wanted.mask) >>> 0 === wanted.mark;
}

function readMark(option: string, entry: number | string): Masked {
  const [, ...words] = /^(0x[\da-f]{1,8}|\d{1,10})\/(0x[\da-f]{1,8}|\d{1,10})$/i.exec(String(entry)) ?? [];
  const [mark, mask] = words.length > 0 ? words.map(Number) : [entry, ALL_BITS];
  checkInteger(option, mark, 0, ALL_BITS);
  checkInteger(`${option} (mask)`, mask, 1, ALL_BITS);
  if (!hasMark(mark, { mark, mask }))
    contradiction(`${option}: ${entry} has bits set that its mask leaves out`, 'no packet can match it');
  return { mark, mask };
}

/** Reads 7 and '0x539/0xfff'. */
export function readMarks(option: string, entries: readonly (number | string)[]): Masked[] {
  const all = entries.map((entry) => readMark(option, entry));
  if (new Set(all.map(({ mark, mask }) => `${mark}/${mask}`)).size !== all.length)
    overlap(option, `${entries.join(', ')}: two of them`);
  return all;
}
