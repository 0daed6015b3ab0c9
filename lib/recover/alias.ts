// Aliases of an eBPF capture of which it is not known what they stand for.
import { constants } from 'node:os';
import { codedError, systemError } from '../errors.ts';
import type { UnknownDst } from './original-dst.ts';

const { EACCES, ESTALE } = constants.errno;

/** Why it is not known where something that came to an alias was going. `status`: of `AliasTable` in src/ebpf/alias_table.h. */
export function unknownAlias(status: number): UnknownDst {
  if (status === -EACCES) {
    const message =
      'It is not known that a captured program has sent this: somebody else may have dialled an alias of the capture';
    const hint =
      'an alias is no destination; connections that wait for very long to be accepted can lose their witness (`stats.lost`), datagrams of before the capture have none';
    return { kind: 'unknown', cause: codedError('ERR_ALIAS_DIALLED', message, { hint }) };
  }
  if (status === -ESTALE) {
    const message = 'The alias that this came to stands for another destination by now, or for none';
    const hint = 'raise `destinations`, or accept sooner';
    return { kind: 'unknown', cause: codedError('ERR_ALIAS_REUSED', message, { hint }) };
  }
  return { kind: 'unknown', cause: systemError(status, { syscall: 'getpeername' }) };
}
