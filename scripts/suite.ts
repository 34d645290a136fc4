import { relative, resolve } from 'node:path';
import { run } from 'node:test';
import { type EventData } from 'node:test';
import { inspect } from 'node:util';

export interface SuiteResult {
  readonly name: string;
  readonly passed: number;
  /** Names, with their files. */
  readonly failed: readonly string[];
  readonly skipped: readonly string[];
  readonly seconds: number;
}

type Finished = EventData.TestPass | EventData.TestFail;
/** A file that takes longer hangs. */
const FILE_TIMEOUT_MS = 10 * 60_000;

/**
 * Runs test files, each in a process of its own, and prints a line for each that ends; failures in full. A suite without a
 * single test has failed.
 */
export async function runSuite(
  name: string,
  files: readonly string[],
  options: { concurrency: number; signal: AbortSignal },
): Promise<SuiteResult> {
  console.log(`\n── ${name}: ${files.length} files`);
  const started = performance.now();
  const failed: string[] = [];
  const skipped: string[] = [];
  let passed = 0;
  /** What tests said of themselves, by file: shown with those that fail, for their seeds. */
  const said = new Map<string, string[]>();

  const titleOf = ({ file, name: test }: Finished) => `${file === undefined ? name : relative('.', file)}: ${test}`;
  const isSuite = (data: Finished) => data.details.type === 'suite';

  if (files.length > 0) {
    const stream = run({ files: [...files], ...options, timeout: FILE_TIMEOUT_MS });
    stream.on('test:pass', (data) => {
      if (isSuite(data)) return;
      // node:test passes a file without tests as one test with the file's name
      if (data.nesting === 0 && files.some((file) => resolve(file) === resolve(data.name))) {
        failed.push(`${data.name}: this file has no tests`);
        return;
      }
      if (data.skip !== undefined || data.todo !== undefined) skipped.push(titleOf(data));
      else passed++;
    });
    stream.on('test:fail', (data) => {
      // a suite fails because of what is in it, unless a hook of its own threw
      if (isSuite(data) && data.details.error.message.includes('subtest')) return;
      failed.push(titleOf(data));
      console.log(`✗ ${titleOf(data)}\n${inspect(data.details.error.cause ?? data.details.error)}`);
    });
    stream.on('test:stdout', ({ message }) => process.stdout.write(message));
    stream.on('test:stderr', ({ message }) => process.stderr.write(message));
    stream.on('test:diagnostic', ({ file = '', message }) => {
      said.set(file, [...(said.get(file) ?? []), message]);
    });
    stream.on('test:summary', ({ file, counts, duration_ms: ms }) => {
      if (file === undefined) return;
      const mark = counts.passed + counts.skipped + counts.todo === counts.tests ? '✓' : '✗';
      console.log(`${mark} ${relative('.', file)}  ${counts.tests} tests, ${(ms / 1000).toFixed(1)} s`);
      if (mark === '✗') for (const line of said.get(file) ?? []) console.log(`  # ${line}`);
    });
    for await (const event of stream) void event; // until all files have ended
  }
  if (passed + failed.length + skipped.length === 0 && !options.signal.aborted) {
    failed.push(`${name}: this suite has no tests`);
  }
  return { name, passed, failed, skipped, seconds: (performance.now() - started) / 1000 };
}
