"""The words that generated records are made of: ordinary ones, and those that break careless code."""

from __future__ import annotations

FIRST_NAMES = (
    "Ada", "Alan", "Grace", "Edsger", "Barbara", "Donald", "Radia", "Tim", "Katherine", "Dennis", "Sophie",
    "José", "Zoë", "Łukasz", "Søren", "Siân", "Ngũgĩ", "Åsa", "Müge", "Renée", "Δημήτρης", "Ольга", "美咲",
)  # fmt: skip
LAST_NAMES = (
    "Byron", "Turing", "Hopper", "Dijkstra", "Liskov", "Knuth", "Perlman", "Lee", "Johnson", "Ritchie",
    "O'Brien", "D'Arcy-Smith", "de la Cruz", "Núñez", "Müller", "Østergård", "Ó Súilleabháin", "Đorđević",
    "Νικολάου", "Иванова", "山本", "MacDonald", "van der Berg",
)  # fmt: skip
COMPANY_WORDS = (
    "Adam", "Alpine", "Blue Yonder", "Café", "Contoso", "Crème & Sons", "Fabrikam", "Fourth Coffee",
    "Litware", "Northwind", "Proseware", "Tailspin", "Wide World", "Zürich", "Señor Bolt", "Łódź Steel",
    "Bjørn", "Æther", "O'Neill", "100% Wool", "[Bracket]", "under_score", "東京", "Ωmega", "\U0001f600 Smile",
)  # fmt: skip
COMPANY_KINDS = (
    "Ltd", "plc", "LLP", "GmbH", "S.A.", "Trading", "Holdings", "Exports", "& Co", "Works", "Foods",
)  # fmt: skip
CITIES = (
    "London", "Leeds", "Cardiff", "Belfast", "Glasgow", "Kraków", "São Paulo", "Zürich", "New York", "北京",
    "Saint-Étienne", "Newcastle upon Tyne",
)  # fmt: skip
COUNTRIES = (
    "United Kingdom",
    "Poland",
    "Brazil",
    "Switzerland",
    "United States",
    "China",
    "France",
    "Côte d'Ivoire",
)
COUNTIES = ("Greater London", "West Yorkshire", "South Glamorgan", "Antrim", "Lanarkshire", "Tyne and Wear")
STREETS = ("High Street", "Station Road", "Queen's Way", "Rue de l'Été", "Straße des 17. Juni", "Mill Lane")
JOBS = ("Director", "Export manager", "Rear admiral", "Head of R&D", "CEO", "Señora de ventas", "Clerk")
SUBJECTS = (
    "Call back",
    "Send quote",
    "Re: visit",
    "Trade fair",
    "Follow up <urgent>",
    "Prüfen",
    "Café meeting",
)
SECTORS = ("Aerospace", "Food & Drink", "ICT", "Life Sciences", "Creative", "Energy", "Railways", "Défense")
MAILBOXES = ("info", "sales", "o'reilly+crm", "export.desk")
PLAIN = ("one", "two", "Standard", "North", "see file", "2nd floor", "n/a", "42", "yes", "Mixed Case Text")
TEXTS = (
    "Met at the fair.",
    "Second line below.\r\nHere it is.",
    'Said "call me", and hung up.',
    "Path C:\\exports\\2013, tab\there",
    "  leading and trailing blanks  ",
    "</d:Description> & other <markup>",
    "See http://crm.example.org/XRMServices/2011/OrganizationData.svc/AccountSet for more",
    "null",
    "Zażółć gęślą jaźń \u2013 \u00bdkg \u2028 end",
    "\U0001f4c8 rising",
)
