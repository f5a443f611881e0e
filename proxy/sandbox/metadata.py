"""The sandbox's own metadata document: a small organisation with every kind of property.

The shape is that of field manual section 10: one Schema, types before associations before the container,
complex properties declared not nullable, relationship names as navigation property names.
"""

from __future__ import annotations

from collections.abc import Iterator

NAMESPACE = "Microsoft.Crm.Sdk.Data.Services"

_COMPLEX = {
    "EntityReference": "Id Guid, LogicalName String, Name String",
    "OptionSetValue": "Value Int32",
    "Money": "Value Decimal",
    "BooleanManagedProperty": "CanBeChanged Boolean!, ManagedPropertyLogicalName String, Value Boolean!",
}

_ADDRESS = """
AddressTypeCode OptionSetValue, City String, Country String, County String, Latitude Double, Line1 String,
Line2 String, Longitude Double, Name String, PostalCode String, StateOrProvince String, Telephone1 String,
UTCOffset Int32"""

_AUDITED = """
CreatedOn DateTime, CreatedBy EntityReference, ModifiedOn DateTime, ModifiedBy EntityReference,
OverriddenCreatedOn DateTime, ImportSequenceNumber Int32, VersionNumber Int64"""

_OWNED = """
OwnerId EntityReference, OwningUser EntityReference, OwningTeam EntityReference,
OwningBusinessUnit EntityReference"""


def _addresses() -> str:
    members = [member.strip() for member in _ADDRESS.split(",")]
    return ", ".join(
        f"Address{number}_{member}" for number in (1, 2) for member in ("AddressId Guid", *members)
    )


# Type name -> (key, properties in document order).
_TYPES: dict[str, tuple[str, str]] = {
    "Account": (
        "AccountId",
        f"""
        TerritoryCode OptionSetValue, LastUsedInCampaign DateTime, {_addresses()},
        OwnershipCode OptionSetValue, CustomerSizeCode OptionSetValue, PrimaryContactId EntityReference,
        CreditLimit Money, CreditLimit_Base Money, CreditOnHold Boolean, EMailAddress1 String,
        Telephone1 String, Fax String, WebSiteURL String, Revenue Money, Revenue_Base Money,
        Description String, TickerSymbol String, NumberOfEmployees Int32, ParentAccountId EntityReference,
        optevia_Sector EntityReference, optevia_ukorganisation Boolean, optevia_LastVerified DateTime,
        AccountCategoryCode OptionSetValue, IndustryCode OptionSetValue,
        PreferredContactMethodCode OptionSetValue, DoNotPhone Boolean, DoNotEMail Boolean, Merged Boolean,
        MasterId EntityReference, ExchangeRate Decimal, AccountNumber String, Name String, AccountId Guid,
        StateCode OptionSetValue, StatusCode OptionSetValue, {_OWNED}, {_AUDITED}""",
    ),
    "Contact": (
        "ContactId",
        f"""
        Salutation String, FirstName String, MiddleName String, LastName String, FullName String,
        NickName String, JobTitle String, Department String, EMailAddress1 String, Telephone1 String,
        MobilePhone String, {_addresses()}, ParentCustomerId EntityReference, BirthDate DateTime,
        Anniversary DateTime, GenderCode OptionSetValue, FamilyStatusCode OptionSetValue,
        NumberOfChildren Int32, AnnualIncome Money, AnnualIncome_Base Money, CreditLimit Money,
        CreditLimit_Base Money, ExchangeRate Decimal, WebSiteUrl String, Description String,
        DoNotPhone Boolean, DoNotEMail Boolean, Merged Boolean, MasterId EntityReference,
        PreferredContactMethodCode OptionSetValue, GovernmentId String, ContactId Guid,
        StateCode OptionSetValue, StatusCode OptionSetValue, {_OWNED}, {_AUDITED}""",
    ),
    "SystemUser": (
        "SystemUserId",
        f"""
        DomainName String, FirstName String, LastName String, FullName String, InternalEMailAddress String,
        JobTitle String, Title String, BusinessUnitId EntityReference, ParentSystemUserId EntityReference,
        IsDisabled Boolean, AccessMode OptionSetValue, PassportLo Int32, MobilePhone String,
        SystemUserId Guid, {_AUDITED}""",
    ),
    "CustomerAddress": (
        "CustomerAddressId",
        f"""
        AddressNumber Int32, {_ADDRESS}, Fax String, PostOfficeBox String, ObjectTypeCode String,
        ParentId EntityReference, CustomerAddressId Guid, OwningUser EntityReference,
        OwningBusinessUnit EntityReference, {_AUDITED}""",
    ),
    "Task": (
        "ActivityId",
        f"""
        Subject String, Description String, Category String, RegardingObjectId EntityReference,
        PriorityCode OptionSetValue, ScheduledStart DateTime, ScheduledEnd DateTime, ActualEnd DateTime,
        ActualDurationMinutes Int32, PercentComplete Int32, IsBilled Boolean, SubscriptionId Guid,
        ActivityTypeCode String, ActivityId Guid, StateCode OptionSetValue, StatusCode OptionSetValue,
        {_OWNED}, {_AUDITED}""",
    ),
    "Team": (
        "TeamId",
        f"""
        Name String, Description String, EMailAddress String, IsDefault Boolean,
        BusinessUnitId EntityReference, AdministratorId EntityReference, TeamId Guid, {_AUDITED}""",
    ),
    # Rows of many-to-many relationships have no ModifiedOn (section 10).
    "TeamMembership": (
        "TeamMembershipId",
        "SystemUserId Guid, VersionNumber Int64, TeamMembershipId Guid, TeamId Guid",
    ),
    "BusinessUnit": (
        "BusinessUnitId",
        f"""
        Name String, DivisionName String, CostCenter String, CreditLimit Double, IsDisabled Boolean,
        ParentBusinessUnitId EntityReference, BusinessUnitId Guid, {_AUDITED}""",
    ),
    "Role": (
        "RoleId",
        f"""
        Name String, IsCustomizable BooleanManagedProperty, IsManaged Boolean, OverwriteTime DateTime,
        ComponentState OptionSetValue, BusinessUnitId EntityReference, RoleId Guid, {_AUDITED}""",
    ),
    # Neither ModifiedOn nor VersionNumber: a set without any stamp.
    "Audit": (
        "AuditId",
        """CreatedOn DateTime, Operation OptionSetValue, AttributeMask String, AuditId Guid,
        UserId EntityReference, TransactionId Guid, ObjectId EntityReference, Action OptionSetValue""",
    ),
    # A custom entity: state and status in lower case, unlike the system's (2.2).
    "optevia_sector": (
        "optevia_sectorId",
        f"""
        optevia_sectorId Guid, optevia_name String, optevia_SortIndex Int32,
        optevia_ParentSector EntityReference, statecode OptionSetValue, statuscode OptionSetValue,
        {_AUDITED}""",
    ),
}

# Association, type at the one end, type at the many end ("*" before the first: many to many).
_ASSOCIATIONS = """
account_primary_contact Contact Account
contact_customer_accounts Account Contact
contact_customer_contacts Contact Contact
account_parent_account Account Account
Account_CustomerAddress Account CustomerAddress
Contact_CustomerAddress Contact CustomerAddress
Account_Tasks Account Task
Contact_Tasks Contact Task
user_accounts SystemUser Account
contact_owning_user SystemUser Contact
user_task SystemUser Task
team_accounts Team Account
business_unit_accounts BusinessUnit Account
business_unit_contacts BusinessUnit Contact
business_unit_system_users BusinessUnit SystemUser
business_unit_teams BusinessUnit Team
business_unit_roles BusinessUnit Role
business_unit_parent_business_unit BusinessUnit BusinessUnit
user_parent_user SystemUser SystemUser
lk_accountbase_createdby SystemUser Account
lk_accountbase_modifiedby SystemUser Account
lk_contactbase_createdby SystemUser Contact
lk_contactbase_modifiedby SystemUser Contact
lk_task_createdby SystemUser Task
lk_task_modifiedby SystemUser Task
lk_optevia_sector_modifiedby SystemUser optevia_sector
lk_audit_userid SystemUser Audit
optevia_optevia_sector_account_Sector optevia_sector Account
optevia_optevia_sector_optevia_sector_ParentSector optevia_sector optevia_sector
teammembership_association *SystemUser Team
systemuserroles_association *SystemUser Role
"""


def _property(declaration: str) -> str:
    name, kind = declaration.split()
    required = kind.endswith("!")
    kind = kind.removesuffix("!")
    if kind in _COMPLEX:
        return f'<Property Name="{name}" Type="{NAMESPACE}.{kind}" Nullable="false" />'
    return f'<Property Name="{name}" Type="Edm.{kind}" Nullable="{"false" if required else "true"}" />'


def _declarations(text: str) -> list[str]:
    return [declaration.strip() for declaration in text.split(",")]


def _associations() -> Iterator[tuple[str, str, str, bool]]:
    for line in _ASSOCIATIONS.strip().splitlines():
        name, one, many = line.split()
        yield name, one.removeprefix("*"), many, one.startswith("*")


def _roles(name: str, one: str, many: str) -> tuple[str, str]:
    if one == many:
        return f"{name}_Referenced", f"{name}_Referencing"
    return f"{name}_One", f"{name}_Many"


def _navigation(type_name: str) -> Iterator[str]:
    """Both ends of every association; a type related to itself gets prefixed names (2.2)."""
    for name, one, many, _ in _associations():
        one_role, many_role = _roles(name, one, many)
        to_itself = one == many
        if type_name == many:
            prefix = "Referencing" if to_itself else ""
            yield _navigation_property(f"{prefix}{name}", name, many_role, one_role)
        if type_name == one:
            prefix = "Referenced" if to_itself else ""
            yield _navigation_property(f"{prefix}{name}", name, one_role, many_role)


def _navigation_property(name: str, association: str, from_role: str, to_role: str) -> str:
    return (
        f'<NavigationProperty Name="{name}" Relationship="{NAMESPACE}.{association}"'
        f' FromRole="{from_role}" ToRole="{to_role}" />'
    )


def _lines() -> Iterator[str]:
    yield '<?xml version="1.0" encoding="utf-8" standalone="yes"?>'
    yield '<edmx:Edmx Version="1.0" xmlns:edmx="http://schemas.microsoft.com/ado/2007/06/edmx">'
    metadata_namespace = 'xmlns:m="http://schemas.microsoft.com/ado/2007/08/dataservices/metadata"'
    yield f'<edmx:DataServices m:DataServiceVersion="1.0" {metadata_namespace}>'
    data_namespace = 'xmlns:d="http://schemas.microsoft.com/ado/2007/08/dataservices"'
    yield (
        f'<Schema Namespace="{NAMESPACE}" {data_namespace} {metadata_namespace}'
        ' xmlns="http://schemas.microsoft.com/ado/2007/05/edm">'
    )
    for name, (key, properties) in _TYPES.items():
        yield f'<EntityType Name="{name}"><Key><PropertyRef Name="{key}" /></Key>'
        for declaration in _declarations(properties):
            yield _property(f"{declaration}!" if declaration.split()[0] == key else declaration)
        yield from _navigation(name)
        yield "</EntityType>"
    for name, members in _COMPLEX.items():
        yield f'<ComplexType Name="{name}">'
        yield from (_property(declaration) for declaration in _declarations(members))
        yield "</ComplexType>"
    for name, one, many, many_to_many in _associations():
        one_role, many_role = _roles(name, one, many)
        multiplicity = "*" if many_to_many else "0..1"
        yield f'<Association Name="{name}">'
        yield f'<End Type="{NAMESPACE}.{one}" Multiplicity="{multiplicity}" Role="{one_role}" />'
        yield f'<End Type="{NAMESPACE}.{many}" Multiplicity="*" Role="{many_role}" />'
        yield "</Association>"
    yield '<EntityContainer Name="SandboxContext" m:IsDefaultEntityContainer="true">'
    for name in _TYPES:
        yield f'<EntitySet Name="{name}Set" EntityType="{NAMESPACE}.{name}" />'
    for name, one, many, _ in _associations():
        one_role, many_role = _roles(name, one, many)
        yield f'<AssociationSet Name="{name}" Association="{NAMESPACE}.{name}">'
        yield f'<End EntitySet="{one}Set" Role="{one_role}" />'
        yield f'<End EntitySet="{many}Set" Role="{many_role}" /></AssociationSet>'
    yield "</EntityContainer></Schema></edmx:DataServices></edmx:Edmx>"


def small_document() -> bytes:
    """The document as `$metadata` serves it."""
    return "\n".join(_lines()).encode()
