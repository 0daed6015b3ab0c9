// Which network namespace a relay server dials in.
import { closeSync, openSync } from 'node:fs';
import { binding } from '../binding.ts';
import { systemError, type SystemError } from '../errors.ts';
import type { Namespace } from '../namespace/namespace.ts';
import { here, Place } from '../recover/place.ts';

/** Where a server listens: in a namespace, on a descriptor that may be of any, or here. */
export function listenPlace(namespace: Namespace | undefined, fd: number): Place {
  if (namespace !== undefined) return new Place(namespace.fd);
  return fd >= 0 ? new Place(fd) : here();
}

/** A namespace to dial in, for as long as it is not closed: whoever gave it may have closed theirs by then. */
export class DialFrom {
  readonly place: Place;

  private constructor(place: Place) {
    this.place = place;
  }

  /** As the option `namespace` of the server says, else where it listens. */
  static open(
    dial: Namespace | undefined,
    listen: Namespace | undefined,
    fd: number,
  ): DialFrom | SystemError {
    const place = listenPlace(dial ?? listen, dial === undefined ? fd : -1);
    const named = dial !== undefined || listen !== undefined;
    // Of a descriptor that is no socket the listener says what is wrong with it.
    if (named && place.number < 0) return systemError(place.number, { syscall: 'setns' });
    if (!place.isElsewhere) return new DialFrom(here());
    if (named) {
      return new DialFrom(new Place(openSync(`/proc/self/fd/${place.where}`, 'r'), place.number));
    }
    const net = binding().namespaceOfSocket(fd);
    if (net < 0) return systemError(net, { syscall: 'setns' });
    const own = openSync(`/proc/self/fd/${net}`, 'r');
    binding().closeFd(net);
    return new DialFrom(new Place(own, place.number));
  }

  close(): void {
    if (this.place.where >= 0) closeSync(this.place.where);
  }
}
