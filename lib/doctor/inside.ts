// A diagnosis of another network namespace: files of /proc and sockets are those of whoever asks, so somebody in there asks.
import { fileURLToPath } from 'node:url';
import { codedError } from '../errors.ts';
import type { Namespace } from '../namespace/namespace.ts';
import type { Finding } from './finding.ts';
import type { DiagnoseOptions } from './index.ts';

/** lib/doctor/inside-program.ts is the program that runs there. */
export async function diagnoseInside(
  namespace: Namespace,
  options: Omit<DiagnoseOptions, 'namespace' | 'host'>,
): Promise<Finding[]> {
  const program = fileURLToPath(new URL('inside-program.js', import.meta.url));
  const command = [process.execPath, ...process.execArgv, program] as const;
  const { status, stdout, stderr } = await namespace.run(command, { input: JSON.stringify(options) });
  if (status === 0) return JSON.parse(stdout) as Finding[];
  throw codedError(
    'ERR_DOCTOR_INSIDE',
    `The diagnosis in the namespace did not run to its end: ${stderr.trim()}`,
    {
      hint: 'whoever is root in there must be able to read this package and to run node',
    },
  );
}
