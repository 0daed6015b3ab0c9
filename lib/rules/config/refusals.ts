// The errors for options that are sound one by one.
import { codedError } from '../../errors.ts';

export function contradiction(message: string, hint?: string): never {
  throw codedError('ERR_RULES_CONTRADICTION', message, hint === undefined ? {} : { hint });
}

export function overlap(option: string, what: string): never {
  throw codedError('ERR_RULES_OVERLAP', `${option}: ${what} overlap`, {
    hint: 'name every address and port once; a wider entry makes the narrower one superfluous',
  });
}
