// Why the kernel would not take a BPF program, map or link, in words for who runs the program.
import { constants } from 'node:os';
import type { BpfFailure } from '../binding.ts';
import { codedError, type CodedError, type SystemError, systemError } from '../errors.ts';

const { EBUSY, EEXIST, EINVAL, ENOPROTOOPT, ENOSYS, ENOTSUP, EPERM } = constants.errno;

const RIGHTS =
  'needs CAP_BPF and CAP_NET_ADMIN in the first user namespace: run as root, or start it with ' +
  '`setpriv --inh-caps=+bpf,+net_admin --ambient-caps=+bpf,+net_admin …`; in a container add BPF and NET_ADMIN';

const TOKEN_RIGHTS =
  'needs CAP_BPF in this user namespace, which must not be the first one, and must be the one that mounts the bpffs';

/** What must be in the kernel for a step to succeed, by how the step begins. The first that fits. */
const FEATURES: readonly (readonly [step: RegExp, feature: string])[] = [
  [
    /TOKEN_CREATE/,
    'BPF tokens (Linux 6.9), and is this a bpffs of this user namespace, with `delegate_cmds`',
  ],
  [/SO_NETNS_COOKIE/, 'SO_NETNS_COOKIE (Linux 5.14)'],
  [/sk_lookup|LOAD lookup/, 'BPF programs for sk_lookup (Linux 5.9)'],
  [/MAP_CREATE.* (?:aliases|witnesses|counters|ring|led)/, 'BPF arrays that can be mapped (Linux 5.5)'],
  [/MAP_CREATE.* trie/, 'BPF tries (Linux 4.11, CONFIG_BPF_SYSCALL)'],
  [/LINK_UPDATE/, 'BPF links that can be updated (Linux 5.7)'],
  [/getpeername/, 'BPF programs at getpeername(2) (Linux 5.8)'],
  [/recvmsg/, 'BPF programs at recvmsg(2) (Linux 5.2)'],
  [/LOAD/, 'atomic operations in BPF programs (Linux 5.12)'],
  [/LINK_CREATE|PROG_QUERY/, 'BPF programs of cgroups (Linux 5.7, CONFIG_CGROUP_BPF)'],
  [/./, 'bpf(2) (CONFIG_BPF_SYSCALL)'],
];

/** Steps that are no commands of bpf(2). */
const OTHER_CALLS: ReadonlySet<string> = new Set(['fstat', 'getsockopt', 'mmap', 'netlink', 'open']);

/** Is it one of the errors with which a kernel says that it does not know what it was asked? */
function isUnknownToKernel(status: number): boolean {
  return [ENOSYS, EINVAL, ENOTSUP, ENOPROTOOPT].includes(-status);
}

function hintOf(status: number, step: string, log: string): string | undefined {
  if (status === -EPERM && step.startsWith('BPF_TOKEN_CREATE')) return TOKEN_RIGHTS;
  if (status === -EPERM) return RIGHTS;
  const said = log === '' ? '' : `; the verifier: ${log.trim().replaceAll('\n', ' | ')}`;
  if (!isUnknownToKernel(status)) return said === '' ? undefined : said.slice(2);
  const [, feature] = FEATURES.find(([pattern]) => pattern.test(step))!;
  return `does this kernel have ${feature}?${said}`;
}

/**
 * The error of a capture or a listener that could not be attached.
 *
 * @param others the programs that are attached at the cgroup, in words
 */
export function attachError(
  [status, step, log]: BpfFailure,
  { pin, others }: { pin?: string | undefined; others?: () => readonly string[] } = {},
): CodedError | SystemError {
  // Not the kernel's answer: kMost of src/glue/ebpf_glue.h.
  if (step === '') return systemError(status, { syscall: 'bpf', hint: 'a thread can have 16 at a time' });
  const [call, place = ''] = step.split(' ');
  if (status === -EBUSY && call === 'BPF_PROG_QUERY') {
    const there = others?.() ?? [];
    return codedError(
      'ERR_CAPTURE_STACKED',
      `The BPF program ${log} runs at ${place} of this cgroup already${there.map((each) => `; ${each}`).join('')}`,
      {
        hint: 'two such programs would each rewrite what the other has written: end it, or capture another cgroup; `bpftool cgroup tree` shows all',
      },
    );
  }
  if (status === -EEXIST && call === 'BPF_OBJ_GET') {
    return codedError('ERR_CAPTURE_PINNED', `What is pinned at ${pin} is not of this capture (${place})`, {
      hint: `it was made with another version, cgroup or number of destinations: remove ${pin}, which ends it`,
    });
  }
  const hint = hintOf(status, step, log);
  return systemError(status, {
    ...(OTHER_CALLS.has(call!) ? { syscall: call!, option: place } : { syscall: 'bpf', option: step }),
    ...(hint === undefined ? {} : { hint }),
  });
}
