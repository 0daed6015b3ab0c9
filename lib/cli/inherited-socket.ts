// The listening socket that a service manager has opened for the proxy: socket activation.
import { codedError } from '../errors.ts';

/** SD_LISTEN_FDS_START: the first descriptor that is passed. */
const FIRST = 3;
/** FileDescriptorName= of the socket unit, where several are passed. */
const NAME = 'proxy';

/** A socket that was passed, or what there is to say of those that are not for us. */
export type Inherited = { fd: number } | { unused: string };

/**
 * sd_listen_fds(3): LISTEN_PID, LISTEN_FDS and LISTEN_FDNAMES, which are taken out of the environment: programs that this
 * one starts must not think that they are meant.
 *
 * @returns undefined where nothing was passed
 * @throws `ERR_LISTEN_FDS`: it cannot be told which of several sockets is the proxy's
 */
export function inheritedSocket(env: NodeJS.ProcessEnv, pid: number): Inherited | undefined {
  const { LISTEN_PID: owner, LISTEN_FDS: count = '', LISTEN_FDNAMES: names = '' } = env;
  for (const name of ['LISTEN_PID', 'LISTEN_FDS', 'LISTEN_FDNAMES']) delete env[name];
  const passed = /^[1-9]\d{0,3}$/.test(count) ? Number(count) : 0;
  if (passed === 0) return undefined;
  if (owner !== String(pid)) {
    return {
      unused: `the sockets of LISTEN_FDS are for process ${owner}: let the service start node itself`,
    };
  }
  if (passed === 1) return { fd: FIRST };
  const at = names.split(':').indexOf(NAME);
  if (at < 0 || at >= passed) {
    throw codedError('ERR_LISTEN_FDS', `${passed} sockets were passed, none of them by the name ${NAME}`, {
      hint: `set FileDescriptorName=${NAME} in the socket unit that is the proxy’s`,
    });
  }
  return { fd: FIRST + at };
}
