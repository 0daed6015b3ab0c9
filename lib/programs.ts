// Where the system's programs are: the one place that looks for them.
import { accessSync, constants, statSync } from 'node:fs';
import { isAbsolute, join } from 'node:path';

/** Where the tools are when the PATH of an ordinary user leaves them out. */
const SYSTEM_DIRECTORIES = ['/usr/sbin', '/sbin', '/usr/bin', '/bin'];

/**
 * PATH for child processes: its absolute directories, then the system's. An empty entry means the working directory
 * to execvp(3), and so does any that does not begin with a slash: root would run a program that whoever owns that
 * directory has put there.
 */
export function searchPath(): string {
  const own = (process.env['PATH'] ?? '').split(':').filter((directory) => isAbsolute(directory));
  return [...new Set([...own, ...SYSTEM_DIRECTORIES])].join(':');
}

function isProgram(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return statSync(path).isFile();
  } catch {
    return false;
  }
}

/** The absolute path of a program, or undefined if there is none of that name. */
export function findProgram(name: string): string | undefined {
  return searchPath()
    .split(':')
    .map((directory) => join(directory, name))
    .find(isProgram);
}

/** The path to run a program by, never one that the working directory has a part in; also if the program is not there. */
export function programPath(name: string): string {
  return isAbsolute(name) ? name : (findProgram(name) ?? join('/usr/bin', name));
}
