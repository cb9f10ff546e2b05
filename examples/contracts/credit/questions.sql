-- How often do borrowers default, by income?
-- ask: weir query --contract bureau-1 --epsilon 0.2
-- verdict: needs approval by 2: contract.approval, recipient.approval
SELECT income, AVG(defaulted) FROM loan_book GROUP BY income;

-- The bureau's own score over those cells: it sends weights under its key, the bank computes without reading them.
-- ask: weir encrypted --contract bureau-1 --epsilon 0.2 --weights score.json --key bureau.key --weight-bits 20
-- verdict: needs approval by 2: contract.approval, recipient.approval
SELECT region, income, SUM(defaulted) FROM loan_book GROUP BY region, income;

-- The contract would allow epsilon 0.25, the bureau's score does not; and balances are not in the contract.
-- ask: weir query --contract bureau-1 --epsilon 0.25
-- verdict: refused: contract.measure, recipient.epsilon_per_query
SELECT region, AVG(balance) FROM loan_book GROUP BY region;

-- Borrowers with an income of 7,000 or more? The card has bands, and a band cannot be cut: the refusal names its edges.
-- ask: weir query --contract bureau-1 --epsilon 0.2
-- verdict: refused: predicate.bin
SELECT COUNT(*) FROM loan_book WHERE income >= 7;

-- The regulator asks for balances, and is answered at once.
-- ask: weir query --contract regulator-1 --epsilon 0.5
-- verdict: allowed
SELECT region, SUM(balance), AVG(defaulted) FROM loan_book GROUP BY region;
