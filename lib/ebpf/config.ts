// struct CaptureConfig of src/ebpf/programs/capture.h.
import type { Family, Protocol } from '../rules/config/config.ts';
import type { Masked } from '../rules/config/marks.ts';
import type { FlowMaps } from './flows.ts';

const SIZE = 264;
const AT = {
  everyPort: 8,
  every: { IPv4: 16, IPv6: 24 },
  cgroups: 32,
  levels: 96,
  uids: 128,
  marks: 160,
  masks: 192,
  cgroupCount: 224,
  uidCount: 228,
  markCount: 232,
  prefix: 240,
  port: 248,
  protocols: { tcp: 250, udp: 251 },
  families: { IPv4: 252, IPv6: 253 },
  byPort: 254,
  by: { IPv4: 255, IPv6: 256 },
  tag: 260,
} as const;

/** kCaptureExemptions: of each kind. */
export const MOST_EXEMPTIONS = 8;

/** The first 32 bits of IPv6 aliases, of the addresses that are nobody else's (RFC 4193). */
export const ALIAS_PREFIX = 0xfd0dd057;

/** fd0d:d057:0:PORT::/64: each port has aliases of its own, so that captures of one namespace do not meet. */
export function aliasPrefix(port: number): { address: string; length: number } {
  return { address: `fd0d:d057:0:${port.toString(16)}::`, length: 64 };
}

export interface CaptureSettings {
  port: number;
  /** What datagrams of captured programs are known by. */
  tag: number;
  protocols: readonly Protocol[];
  families: readonly Family[];
  flows: FlowMaps;
  exempt: {
    uids: readonly number[];
    marks: readonly Masked[];
    cgroups: readonly { id: bigint; level: number }[];
  };
}

/** What the programs go by, as they read it. What of it the addon knows better is left 0. */
export function packConfig({ port, tag, protocols, families, flows, exempt }: CaptureSettings): Uint8Array {
  const bytes = new Uint8Array(SIZE);
  const view = new DataView(bytes.buffer);
  view.setBigUint64(AT.everyPort, flows.every, true);
  for (const family of ['IPv4', 'IPv6'] as const) {
    view.setBigUint64(AT.every[family], flows.every, true);
    bytes[AT.families[family]] = Number(families.includes(family));
    bytes[AT.by[family]] = Number(flows.prefixes[family].length > 0);
  }
  bytes[AT.byPort] = Number(flows.ports !== null);
  for (const protocol of ['tcp', 'udp'] as const)
    bytes[AT.protocols[protocol]] = Number(protocols.includes(protocol));
  // In network byte order, as in the packets.
  view.setUint32(AT.prefix, ALIAS_PREFIX, false);
  view.setUint32(AT.prefix + 4, port, false);
  view.setUint16(AT.port, port, false);
  view.setUint32(AT.tag, tag, true);

  view.setUint32(AT.uidCount, exempt.uids.length, true);
  for (const [index, uid] of exempt.uids.entries()) view.setUint32(AT.uids + 4 * index, uid, true);
  view.setUint32(AT.markCount, exempt.marks.length, true);
  for (const [index, { mark, mask }] of exempt.marks.entries()) {
    view.setUint32(AT.marks + 4 * index, mark, true);
    view.setUint32(AT.masks + 4 * index, mask, true);
  }
  view.setUint32(AT.cgroupCount, exempt.cgroups.length, true);
  for (const [index, { id, level }] of exempt.cgroups.entries()) {
    view.setBigUint64(AT.cgroups + 8 * index, id, true);
    view.setUint32(AT.levels + 4 * index, level, true);
  }
  return bytes;
}
