/** Explores with a budget given as JSON: `node test/model/main.ts '{"failovers":1,"cuts":1}' [STATES]`. */
import { standIn, type Mutant } from './hooks.ts';

const [budget = '{}', states = '100000', mutant] = process.argv.slice(2);
standIn(mutant === undefined ? undefined : (JSON.parse(mutant) as Mutant));
const { explore } = await import('./explore.ts');
const result = await explore(JSON.parse(budget) as object, { states: Number(states) });
console.log(JSON.stringify(result, null, 1));
