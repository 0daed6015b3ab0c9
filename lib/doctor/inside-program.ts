// What inside.ts runs in another namespace: options of diagnose() on standard input, its findings on standard output.
import { json } from 'node:stream/consumers';
import { diagnose, type DiagnoseOptions } from './index.ts';

const options = (await json(process.stdin)) as DiagnoseOptions;
process.stdout.write(JSON.stringify(await diagnose(options)));
