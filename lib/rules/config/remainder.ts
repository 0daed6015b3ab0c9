// What exclusions leave of a match: exact, so that nothing is accepted of which no packet is captured.
import { EVERY_ADDRESS, EVERY_PORT, type Range } from './ranges.ts';
import type { Family } from './config.ts';
import type { Match } from './match.ts';

/** Packets of one family, field by field. */
interface Packets {
  ports: Range[];
  destinations: Range[];
  sources: Range[];
  uids: Range[];
  gids: Range[];
  /** Undefined: every interface. */
  interfaces: readonly string[] | undefined;
  notInterfaces: readonly string[];
}

const EVERY_OWNER: Range[] = [{ first: 0n, last: 2n ** 32n - 2n }];
const FIELDS = ['ports', 'destinations', 'sources', 'uids', 'gids'] as const;

function owners(ids: readonly number[] | undefined): Range[] | undefined {
  return ids?.map((id) => ({ first: BigInt(id), last: BigInt(id) }));
}

/** The ranges that a match names, by field; undefined where it names none. */
function named(match: Match, family: Family): Record<(typeof FIELDS)[number], Range[] | undefined> {
  return {
    ports: match.ports,
    destinations: match.destinations?.[family],
    sources: match.sources?.[family],
    uids: owners(match.uids),
    gids: owners(match.gids),
  };
}

function without(ranges: readonly Range[], taken: readonly Range[]): Range[] {
  return taken.reduce<Range[]>(
    (left, { first, last }) =>
      left.flatMap((range) => {
        if (last < range.first || first > range.last) return [range];
        return [
          ...(range.first < first ? [{ first: range.first, last: first - 1n }] : []),
          ...(range.last > last ? [{ first: last + 1n, last: range.last }] : []),
        ];
      }),
    [...ranges],
  );
}

/** Is every name that the one pattern stands for one of the other's? */
export function nameCovers(outer: string, inner: string): boolean {
  return outer === inner || (outer.endsWith('*') && inner.startsWith(outer.slice(0, -1)));
}

function hasName({ interfaces, notInterfaces }: Packets): boolean {
  return (
    interfaces === undefined ||
    interfaces.some((name) => !notInterfaces.some((other) => nameCovers(other, name)))
  );
}

function remains(packets: Packets, exclude: readonly Match[], family: Family): boolean {
  if (!hasName(packets) || FIELDS.some((field) => packets[field].length === 0)) return false;
  const [first, ...others] = exclude;
  if (first === undefined) return true;
  // A packet that an exclusion does not name differs from it in at least one field.
  const taken = named(first, family);
  const { interfaces } = first;
  return (
    FIELDS.some((field) => {
      const ranges = taken[field];
      if (ranges === undefined) return false;
      return remains({ ...packets, [field]: without(packets[field], ranges) }, others, family);
    }) ||
    (interfaces !== undefined &&
      remains({ ...packets, notInterfaces: [...packets.notInterfaces, ...interfaces] }, others, family))
  );
}

/** Is there a packet of this family that the match names and none of the exclusions does? */
export function leavesSome(match: Match, exclude: readonly Match[], family: Family): boolean {
  const { ports, destinations, sources, uids, gids } = named(match, family);
  const packets: Packets = {
    ports: ports ?? EVERY_PORT,
    destinations: destinations ?? EVERY_ADDRESS[family],
    sources: sources ?? EVERY_ADDRESS[family],
    uids: uids ?? EVERY_OWNER,
    gids: gids ?? EVERY_OWNER,
    interfaces: match.interfaces,
    notInterfaces: [],
  };
  return remains(packets, exclude, family);
}
