// Whether, and by which mark, what programs and servers answer to a client whose address the proxy borrowed comes back.
import { checkInteger, invalidType } from '../../arguments.ts';
import { codedError } from '../../errors.ts';
import type { GatewayRules, InboundRules } from './config.ts';
import { checkObject } from './fields.ts';
import { contradiction } from './refusals.ts';

/** Does the mode of this direction bring answers back without being asked to? */
export function preservesAlways(
  option: 'inbound' | 'gateway',
  { mode, preserveSource }: InboundRules | GatewayRules,
): boolean {
  if (mode === 'tproxy' && preserveSource === false)
    contradiction(`${option}.preserveSource: under tproxy answers are always brought back`, 'leave it out');
  return mode === 'tproxy';
}

/** The mark of the sockets that dial programs of this host with a client's address; `mark`: the one of the routing. */
export function inboundSourceMark(value: InboundRules, mark: number): number | undefined {
  const always = preservesAlways('inbound', value);
  const { preserveSource = always } = value;
  if (typeof preserveSource === 'boolean') return preserveSource ? mark : undefined;
  const option = 'inbound.preserveSource';
  if (typeof preserveSource !== 'object' || preserveSource === null)
    throw invalidType(option, 'of type boolean or an object', preserveSource);
  checkObject(option, preserveSource, ['mark']);
  checkInteger(`${option}.mark`, preserveSource.mark, 1, 2 ** 32 - 1);
  if ([mark + 1, mark + 2].includes(preserveSource.mark)) {
    throw codedError(
      'ERR_RULES_LOOP',
      `${option}.mark: packets with mark ${preserveSource.mark} are captured`,
      {
        hint: `tproxy uses the marks ${mark} to ${mark + 2}: choose another one, or another option mark`,
      },
    );
  }
  return preserveSource.mark;
}
