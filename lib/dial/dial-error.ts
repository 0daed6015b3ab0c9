// What a dial failed at, as an error.
import type { Endpoint } from '../address.ts';
import { systemError, type SystemError } from '../errors.ts';

/** enum DialStep of src/socket/dial.h. What is not a system call of its own is an option of setsockopt(2). */
const STEPS = [
  'relay',
  'socket',
  'SO_BINDTODEVICE',
  'SO_MARK',
  'IP_TRANSPARENT',
  'IP_FREEBIND',
  'IP_BIND_ADDRESS_NO_PORT',
  'SO_REUSEADDR',
  'bind',
  'connect',
  'read',
] as const;

/** What the error of a dial names: each where it is known. */
export interface DialEnds {
  source?: Pick<Endpoint, 'address' | 'port'>;
  destination?: Pick<Endpoint, 'address' | 'port'>;
}

/** The error of a dial that failed at `step`, in Node's shape: with the address that the call was about. */
export function dialError(errno: number, step: number, ends: DialEnds): SystemError {
  const failed = STEPS[step]!;
  switch (failed) {
    case 'relay':
    case 'socket':
      return systemError(errno, { syscall: failed });
    case 'bind':
      return systemError(errno, { syscall: failed, ...ends.source });
    case 'connect':
    case 'read':
      return systemError(errno, { syscall: failed, ...ends.destination });
    default:
      return systemError(errno, { syscall: 'setsockopt', option: failed });
  }
}
