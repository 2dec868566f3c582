import { describeCustody } from './custody.js';

describeCustody('git');
