// `npm run demo`
import { runDemo } from './run.ts';

process.exitCode = await runDemo();
