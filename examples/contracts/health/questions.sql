-- What does a stay cost, by age?
-- ask: weir query --contract stays-1 --epsilon 0.25
-- verdict: needs approval by 2: contract.approval
SELECT age, AVG(cost) AS cost FROM hospital_stays GROUP BY age;

-- How many days of surgery, by year, for those over 65?
-- ask: weir query --contract stays-1 --epsilon 0.5
-- verdict: needs approval by 2: contract.approval
SELECT year, SUM(days) FROM hospital_stays WHERE department = 'surgery' AND age >= 65 GROUP BY year;

-- The same split by sex, for a marketing campaign, with little noise: three reasons, all of them told.
-- ask: weir query --contract stays-1 --epsilon 2 --purpose marketing
-- verdict: refused: contract.purpose, contract.dimension, contract.epsilon_per_query
SELECT sex, AVG(cost) FROM hospital_stays GROUP BY sex;

-- Without noise? Red line: no contract, approval or person lifts it.
-- ask: weir query --contract stays-1 --mode exact
-- verdict: refused: grade.technique
SELECT age, COUNT(*) FROM hospital_stays GROUP BY age;

-- Of the derived data: exact, at once.
-- ask: weir query --contract patients-1 --purpose teaching
-- verdict: allowed
SELECT sex, age, COUNT(*), AVG(emergency) FROM patients_general GROUP BY sex, age;
