// bpf(2) BPF_PROG_QUERY: whose programs run in a cgroup where connections are begun.
import { closeSync, openSync } from 'node:fs';
import { dirname } from 'node:path';
import type { Binding } from '../binding.ts';
import { hostFiles, type HostFiles } from '../host-files.ts';

/** enum bpf_attach_type of the kernel's include/uapi/linux/bpf.h: what a capture attaches to itself. */
const REWRITING = {
  connect4: 10,
  connect6: 11,
  sendmsg4: 14,
  sendmsg6: 15,
  recvmsg4: 19,
  recvmsg6: 20,
  getpeername4: 29,
  getpeername6: 30,
} as const;

/** And where a program can answer SO_ORIGINAL_DST in the kernel's place. */
const PLACES = { ...REWRITING, getsockopt: 21 } as const;
export type Place = keyof typeof PLACES;

/** Those that a capture cannot be beside. */
export function isInTheWay(places: readonly Place[]): boolean {
  return places.some((place) => place in REWRITING);
}

type Native = Pick<Binding, 'cgroupPrograms' | 'programName'>;

export interface AttachedProgram {
  /** Its number in the kernel. */
  program: number;
  /** What the one who loaded it calls it; undefined where that may not be asked (CAP_SYS_ADMIN). */
  name: string | undefined;
  /** The cgroup's directory; undefined: above all that can be seen here. */
  cgroup: string | undefined;
  places: Place[];
}

/** The programs of one cgroup, or with those of the cgroups above. */
function look(native: Native, directory: string, effective: boolean): AttachedProgram[] {
  const found = new Map<number, AttachedProgram>();
  const fd = openSync(directory, 'r');
  try {
    for (const [place, type] of Object.entries(PLACES) as [Place, number][]) {
      const programs = native.cgroupPrograms(fd, type, effective);
      for (const program of typeof programs === 'number' ? [] : programs) {
        const name = native.programName(program);
        const known = found.get(program) ?? {
          program,
          name: typeof name === 'string' ? name : undefined,
          cgroup: effective ? undefined : directory,
          places: [],
        };
        known.places.push(place);
        found.set(program, known);
      }
    }
  } finally {
    closeSync(fd);
  }
  return [...found.values()];
}

/** Programs of the cgroups given, and of those above them up to the mount point and beyond. */
export function attachedPrograms(
  native: Native,
  directories: readonly string[],
  mount: string,
): AttachedProgram[] {
  const all = new Set<string>();
  for (const directory of directories)
    for (let at = directory; at.startsWith(mount); at = dirname(at)) all.add(at);
  const found = [...all].flatMap((directory) => look(native, directory, false));
  // Of a container's mount point the cgroups above are not seen, but what they have counts.
  const own = new Set(found.filter(({ cgroup }) => cgroup === mount).map(({ program }) => program));
  return [...found, ...look(native, mount, true).filter(({ program }) => !own.has(program))];
}

/** Which processes keep a program attached: they have a descriptor of it or of its link. `agent (812)` */
function holders(program: number, files: HostFiles): string[] {
  return files
    .list('/proc')
    .filter((name) => /^\d+$/.test(name))
    .filter((pid) =>
      files.list(`/proc/${pid}/fd`).some((fd) => {
        if (!/^anon_inode:bpf[-_](?:link|prog)$/.test(files.link(`/proc/${pid}/fd/${fd}`) ?? ''))
          return false;
        return new RegExp(`^prog_id:\\s+${program}$`, 'm').test(
          files.read(`/proc/${pid}/fdinfo/${fd}`) ?? '',
        );
      }),
    )
    .map((pid) => `${(files.read(`/proc/${pid}/comm`) ?? '?').trim()} (${pid})`);
}

/** `programs 42 (to4), 43 (to6) at connect4, connect6 of /sys/fs/cgroup/app, held by agent (812)`: a text for each holder. */
export function describePrograms(
  programs: readonly AttachedProgram[],
  files: HostFiles = hostFiles,
): string[] {
  const groups = new Map<string, AttachedProgram[]>();
  for (const each of programs) {
    const of = holders(each.program, files).join(', ') || 'no process that can be seen: it may be pinned';
    const where = `of ${each.cgroup ?? 'a cgroup above'}, held by ${of}`;
    groups.set(where, [...(groups.get(where) ?? []), each]);
  }
  return [...groups].map(([where, group]) => {
    const names = group.map(({ program, name }) => (name === undefined ? program : `${program} (${name})`));
    const places = new Set(group.flatMap((each) => each.places));
    return `${group.length === 1 ? 'program' : 'programs'} ${names.join(', ')} at ${[...places].join(', ')} ${where}`;
  });
}
