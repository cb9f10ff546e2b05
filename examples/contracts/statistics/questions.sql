-- The university is assessed: answered at once.
-- ask: weir query --contract university-1 --purpose teaching
-- verdict: allowed
SELECT industry, COUNT(*), SUM(revenue) FROM enterprise_survey GROUP BY industry;

-- The newspaper is not: somebody at the office looks at the question, and lets it stand as a template.
-- ask: weir query --contract press-1 --purpose press
-- verdict: needs approval by 1: recipient.approval
-- then: weir approvals approve ID --free prefecture --uses 500 --days 366 --reason "yearly table, any prefecture"
SELECT industry, AVG(revenue) FROM enterprise_survey WHERE prefecture = 'north' GROUP BY industry;

-- The same question about another prefecture: nobody is asked again.
-- ask: weir query --contract press-1 --purpose press
-- verdict: allowed by template
SELECT industry, AVG(revenue) FROM enterprise_survey WHERE prefecture = 'coast' GROUP BY industry;

-- Another question is another look.
-- ask: weir query --contract press-1 --purpose press
-- verdict: needs approval by 1: recipient.approval
SELECT prefecture, SUM(exporters) FROM enterprise_survey WHERE size >= 50 GROUP BY prefecture;

-- Enterprises with much revenue? Revenue is summed, never filtered by: that would single them out.
-- ask: weir query --contract university-1 --purpose research
-- verdict: refused: exact.condition
SELECT COUNT(*) FROM enterprise_survey WHERE revenue > 400000;
