/** Makes the test guest unless it is in the cache. */
import { guestFiles } from '../lab/guest/build.ts';
import { Failure } from '../src/model/failure.ts';

try {
  await guestFiles((line) => console.error(`understudy: ${line}`));
} catch (error) {
  if (!(error instanceof Failure)) throw error;
  console.error(`understudy: ${error.message}\n${error.hint}`);
  process.exitCode = 1;
}
