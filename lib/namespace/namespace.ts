// A network namespace as a value: made or found, held by a descriptor, entered by child processes.
import type { ChildProcess, ChildProcessWithoutNullStreams, SpawnOptions } from 'node:child_process';
import { closeSync, openSync, readlinkSync } from 'node:fs';
import { constants } from 'node:os';
import type { Endpoint } from '../address.ts';
import { checkInteger, checkKnown, checkMembers, invalidType, outOfRange } from '../arguments.ts';
import { binding } from '../binding.ts';
import { codedError, systemError, type SystemError } from '../errors.ts';
import { createNetworkNamespace } from './create.ts';
import { type Entrance, spawnInside } from './enter.ts';
import { runInside, type RunOptions, type RunResult } from './run.ts';

/** Options of {@link Namespace.spawn}: those of child_process.spawn, and: */
export interface NamespaceSpawnOptions extends SpawnOptions {
  /**
   * Run as the namespace's root, with every right over its interfaces, rules and sockets, and no more than before over
   * anything else. Default false: as this user, with no right over it (unless this process has it).
   */
  root?: boolean;
}

export interface NamespaceCreateOptions {
  /**
   * `['IPv4']`: IPv6 is switched off in there (`net.ipv6.conf.all.disable_ipv6`), and on the interfaces to come. Whoever is
   * its root may switch it on again. Default both; IPv4 cannot be switched off.
   */
  families?: readonly Endpoint['family'][];
}

/** Where the number of a network namespace comes from: /proc/sys/kernel/pid_max has no higher one. */
const MAX_PID = 2 ** 22;

function opened(path: string): number {
  try {
    return openSync(path, 'r'); // O_CLOEXEC, as all that Node opens
  } catch (error) {
    const { errno } = error as SystemError;
    throw systemError(errno, {
      syscall: 'open',
      address: path,
      ...(errno === -constants.errno.EACCES
        ? { hint: 'the process is another user’s: run as that user, or as root' }
        : {}),
    });
  }
}

/** Throws unless it is one. */
export function checkNamespace(name: string, value: unknown): asserts value is Namespace {
  if (!(value instanceof Namespace)) throw invalidType(name, 'an instance of Namespace', value);
}

/** A descriptor of the addon's as one of Node's own, which are closed with the worker thread that opened them. */
function tracked(fd: number): number {
  const own = openSync(`/proc/self/fd/${fd}`, 'r');
  binding().closeFd(fd);
  return own;
}

/**
 * `namespaces(7)`: a network namespace, by a descriptor that keeps it alive. Everything that opens sockets takes one in
 * its option `namespace`; {@link spawn} runs a program in it. No thread of this process ever enters it.
 *
 * With the last descriptor, socket and process of a namespace it ends, and with it all that was set up in there; so it
 * does when this process is killed.
 */
export class Namespace {
  #net: number;
  /** Of the user namespace that owns it, if that is not this process's: to be entered first. */
  readonly #owner: number | undefined;
  /** Made by this user, who is root in there and not out here. */
  readonly #rootless: boolean;

  private constructor(net: number, rootless: boolean) {
    this.#net = net;
    this.#rootless = rootless;
    this.#owner = Namespace.#ownerOf(net);
  }

  static #ownerOf(net: number): number | undefined {
    const found = binding().namespaceOwner(net);
    if (found >= 0) {
      const owner = tracked(found);
      // One cannot enter where one is.
      if (readlinkSync(`/proc/self/fd/${owner}`) !== readlinkSync('/proc/thread-self/ns/user')) return owner;
      closeSync(owner);
      return undefined;
    }
    // Outside of what this process may know of: whatever it may do in there, it may do without.
    if (found === -constants.errno.EPERM) return undefined;
    closeSync(net);
    throw systemError(found, {
      syscall: 'ioctl',
      hint: 'this is no network namespace: /proc/PID/ns/net and what `ip netns add` makes in /run/netns are',
    });
  }

  /**
   * `clone(2)` with CLONE_NEWNET: a new one, empty but for the loopback interface, which is up. Without CAP_SYS_ADMIN it
   * gets a user namespace of its own (CLONE_NEWUSER), in which this user is root.
   *
   * @throws `ERR_NAMESPACE_UNAVAILABLE` with what forbids it and what to do; `ERR_UNSUPPORTED_PLATFORM`, `ERR_BINDING_NOT_LOADED`,
   * argument errors
   * Capability: none. Source: user_namespaces(7), network_namespaces(7), Documentation/networking/ip-sysctl.rst.
   */
  static async create(options: NamespaceCreateOptions = {}): Promise<Namespace> {
    checkKnown('options', options, ['families']);
    const { families = ['IPv4', 'IPv6'] } = options;
    checkMembers('options.families', families, ['IPv4', 'IPv6']);
    if (!families.includes('IPv4'))
      throw outOfRange('options.families', 'with IPv4, which cannot be switched off', families);
    const net = createNetworkNamespace(!families.includes('IPv6'));
    if (typeof net !== 'number') throw net;
    return new Namespace(tracked(net), true);
  }

  /**
   * `open(2)`: the namespace of a process, a container's or a pod's, or one that has a name.
   *
   * @param where a process's id, or a path: `/run/netns/…`, `/proc/PID/ns/net`
   * @throws a system error of open (`ENOENT`, `EACCES`) or ioctl (`ENOTTY`: no namespace), argument errors
   * Capability: none to open it; what is done in there needs CAP_SYS_ADMIN in the user namespace that owns it, which
   * whoever made that has.
   */
  static of(where: number | string): Namespace {
    if (typeof where !== 'string') checkInteger('where', where, 1, MAX_PID);
    else if (where === '' || where.includes('\0'))
      throw invalidType('where', 'a path or a process id', where);
    return new Namespace(opened(typeof where === 'string' ? where : `/proc/${where}/ns/net`), false);
  }

  /** The one that the sockets of the calling thread are opened in. */
  static current(): Namespace {
    return new Namespace(opened('/proc/thread-self/ns/net'), false);
  }

  /**
   * The descriptor, an inode of nsfs.
   *
   * @throws `ERR_NAMESPACE_CLOSED`
   */
  get fd(): number {
    if (this.#net < 0) throw codedError('ERR_NAMESPACE_CLOSED', 'This namespace has been closed');
    return this.#net;
  }

  get #entrance(): Entrance {
    const owner = this.#owner === undefined ? {} : { owner: this.#owner };
    return { net: this.fd, rootless: this.#rootless, ...owner };
  }

  /**
   * As child_process.spawn, in the namespace: the child is the program itself, with its standard streams, signals, exit
   * status and `'error'` (`ENOENT`). It enters by way of nsenter(1) of util-linux.
   *
   * @throws `ERR_NAMESPACE_CLOSED`, `ERR_NAMESPACE_TOOL_MISSING`, as child_process.spawn
   */
  spawn(command: string, args?: readonly string[]): ChildProcessWithoutNullStreams;
  spawn(command: string, args: readonly string[], options: NamespaceSpawnOptions): ChildProcess;
  spawn(
    command: string,
    args: readonly string[] = [],
    { root = false, ...options }: NamespaceSpawnOptions = {},
  ): ChildProcess {
    return spawnInside(this.#entrance, [command, ...args], root, options);
  }

  /**
   * Runs a tool in there, as {@link spawn} with `root`, to its end.
   *
   * @returns what it printed, and its exit status
   * @throws as {@link spawn}
   */
  async run(argv: readonly [string, ...string[]], options: RunOptions = {}): Promise<RunResult> {
    return await runInside(this.#entrance, argv, options);
  }

  /** `close(2)`. What runs in there, and sockets of it, go on. Once more does nothing. */
  close(): void {
    if (this.#net < 0) return;
    closeSync(this.#net);
    if (this.#owner !== undefined) closeSync(this.#owner);
    this.#net = -1;
  }

  /** {@link close} */
  [Symbol.asyncDispose](): Promise<void> {
    this.close();
    return Promise.resolve();
  }
}
